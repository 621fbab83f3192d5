//! The grammar.

#[derive(Debug)]
pub(super) enum Expr {
    Number(f64),
    Text(String),
    Binary(Operator, Box<Self>, Box<Self>),
    Negative(Box<Self>),
    Call(String, Vec<Self>),
    Path(Path),
    /// `(expression)[predicate]/steps`
    Filter {
        of: Box<Self>,
        predicates: Vec<Self>,
        steps: Vec<Step>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Or,
    And,
    Equal,
    Unequal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Union,
}

#[derive(Debug)]
pub(super) struct Path {
    pub(super) absolute: bool,
    pub(super) steps: Vec<Step>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    Child,
    Descendant,
    DescendantOrSelf,
    Parent,
    Ancestor,
    AncestorOrSelf,
    Own,
    Attribute,
    FollowingSibling,
    PrecedingSibling,
}

impl Axis {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "child" => Self::Child,
            "descendant" => Self::Descendant,
            "descendant-or-self" => Self::DescendantOrSelf,
            "parent" => Self::Parent,
            "ancestor" => Self::Ancestor,
            "ancestor-or-self" => Self::AncestorOrSelf,
            "self" => Self::Own,
            "attribute" => Self::Attribute,
            "following-sibling" => Self::FollowingSibling,
            "preceding-sibling" => Self::PrecedingSibling,
            _ => return None,
        })
    }
}

#[derive(Debug)]
pub(super) enum Test {
    Name(String),
    Any,
    Node,
    Text,
    Comment,
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) axis: Axis,
    pub(super) test: Test,
    pub(super) predicates: Vec<Expr>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Name(String),
    Number(f64),
    Text(String),
    /// `/ // :: .. . @ ( ) [ ] , | + - * = != < <= > >=`
    Sign(&'static str),
}

const SIGNS: &[&str] = &[
    "//", "::", "..", "!=", "<=", ">=", "/", ".", "@", "(", ")", "[", "]", ",", "|", "+", "-", "*", "=", "<",
    ">",
];

fn tokens(text: &str) -> Result<Vec<Token>, ()> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let digit = |text: &str| text.starts_with(|c: char| c.is_ascii_digit());
        let (token, length) = if matches!(first, '\'' | '"') {
            let inner = rest.get(1..).unwrap_or_default().split_once(first).ok_or(())?.0;
            (Token::Text(inner.to_owned()), inner.len() + 2)
        } else if digit(rest) || rest.strip_prefix('.').is_some_and(digit) {
            let length = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
            (Token::Number(rest.get(..length).and_then(|text| text.parse().ok()).ok_or(())?), length)
        } else if let Some(sign) = SIGNS.iter().find(|sign| rest.starts_with(**sign)) {
            (Token::Sign(sign), sign.len())
        } else if first.is_alphabetic() || first == '_' {
            let inside = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
            let length = rest.find(|c: char| !inside(c)).unwrap_or(rest.len());
            (Token::Name(rest.get(..length).ok_or(())?.to_owned()), length)
        } else {
            return Err(());
        };
        found.push(token);
        rest = rest.get(length..).unwrap_or_default().trim_start();
    }
    Ok(found)
}

/// Parentheses and predicates inside each other.
const DEPTH: usize = 64;

pub(super) fn parse(text: &str) -> Result<Expr, ()> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, depth: 0 };
    let expr = parser.binary(0)?;
    if parser.at == parser.tokens.len() { Ok(expr) } else { Err(()) }
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
}

/// Operators from the loosest to the tightest.
const LEVELS: &[&[(&str, Operator)]] = &[
    &[("or", Operator::Or)],
    &[("and", Operator::And)],
    &[("=", Operator::Equal), ("!=", Operator::Unequal)],
    &[
        ("<", Operator::Less),
        ("<=", Operator::LessEqual),
        (">", Operator::Greater),
        (">=", Operator::GreaterEqual),
    ],
    &[("+", Operator::Add), ("-", Operator::Subtract)],
    &[("*", Operator::Multiply), ("div", Operator::Divide), ("mod", Operator::Modulo)],
];

impl Parser {
    fn peek(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead)
    }

    fn next(&mut self) -> Option<Token> {
        self.at += 1;
        self.tokens.get(self.at - 1).cloned()
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(0), Some(Token::Sign(found)) if *found == sign)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = self.is(sign);
        self.at += usize::from(found);
        found
    }

    fn need(&mut self, sign: &str) -> Result<(), ()> {
        if self.take(sign) { Ok(()) } else { Err(()) }
    }

    fn binary(&mut self, level: usize) -> Result<Expr, ()> {
        let Some(operators) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        loop {
            let word = match self.peek(0) {
                Some(Token::Sign(sign)) => *sign,
                Some(Token::Name(name)) => name.as_str(),
                _ => return Ok(left),
            };
            let Some((_, operator)) = operators.iter().find(|(known, _)| *known == word) else {
                return Ok(left);
            };
            self.at += 1;
            let right = self.binary(level + 1)?;
            left = Expr::Binary(*operator, Box::new(left), Box::new(right));
        }
    }

    fn unary(&mut self) -> Result<Expr, ()> {
        let mut negative = false;
        while self.take("-") {
            negative = !negative;
        }
        let mut expr = self.path()?;
        while self.take("|") {
            expr = Expr::Binary(Operator::Union, Box::new(expr), Box::new(self.path()?));
        }
        Ok(if negative { Expr::Negative(Box::new(expr)) } else { expr })
    }

    fn path(&mut self) -> Result<Expr, ()> {
        let call = matches!(self.peek(0), Some(Token::Name(name)) if !is_node_type(name))
            && self.peek(1) == Some(&Token::Sign("("));
        let of = match self.peek(0).cloned().ok_or(())? {
            Token::Number(number) => {
                self.at += 1;
                Expr::Number(number)
            }
            Token::Text(text) => {
                self.at += 1;
                Expr::Text(text)
            }
            Token::Sign("(") => {
                self.at += 1;
                let inner = self.deeper(|parser| parser.binary(0))?;
                self.need(")")?;
                inner
            }
            Token::Name(name) if call => {
                self.at += 2;
                self.call(name)?
            }
            _ => return self.location().map(Expr::Path),
        };
        let predicates = self.predicates()?;
        let mut steps = Vec::new();
        if self.is("/") || self.is("//") {
            self.more_steps(&mut steps)?;
        }
        if predicates.is_empty() && steps.is_empty() {
            return Ok(of);
        }
        Ok(Expr::Filter { of: Box::new(of), predicates, steps })
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, ()>) -> Result<T, ()> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err(());
        }
        let result = read(self);
        self.depth -= 1;
        result
    }

    fn call(&mut self, name: String) -> Result<Expr, ()> {
        let mut arguments = Vec::new();
        if !self.take(")") {
            loop {
                arguments.push(self.deeper(|parser| parser.binary(0))?);
                if self.take(")") {
                    break;
                }
                self.need(",")?;
            }
        }
        Ok(Expr::Call(name, arguments))
    }

    fn location(&mut self) -> Result<Path, ()> {
        let mut steps = Vec::new();
        if self.is("//") {
            self.more_steps(&mut steps)?;
            return Ok(Path { absolute: true, steps });
        }
        if self.take("/") {
            if self.begins_step() {
                steps.push(self.step()?);
                self.more_steps(&mut steps)?;
            }
            return Ok(Path { absolute: true, steps });
        }
        steps.push(self.step()?);
        self.more_steps(&mut steps)?;
        Ok(Path { absolute: false, steps })
    }

    fn begins_step(&self) -> bool {
        match self.peek(0) {
            Some(Token::Name(_)) => true,
            Some(Token::Sign(sign)) => matches!(*sign, "." | ".." | "@" | "*"),
            _ => false,
        }
    }

    fn more_steps(&mut self, steps: &mut Vec<Step>) -> Result<(), ()> {
        loop {
            if self.take("//") {
                steps.push(Step { axis: Axis::DescendantOrSelf, test: Test::Node, predicates: Vec::new() });
            } else if !self.take("/") {
                return Ok(());
            }
            steps.push(self.step()?);
        }
    }

    fn step(&mut self) -> Result<Step, ()> {
        for (sign, axis) in [(".", Axis::Own), ("..", Axis::Parent)] {
            if self.take(sign) {
                return Ok(Step { axis, test: Test::Node, predicates: Vec::new() });
            }
        }
        let axis = if self.take("@") {
            Axis::Attribute
        } else if let (Some(Token::Name(name)), Some(Token::Sign("::"))) = (self.peek(0), self.peek(1)) {
            let axis = Axis::named(name).ok_or(())?;
            self.at += 2;
            axis
        } else {
            Axis::Child
        };
        let test = self.test()?;
        Ok(Step { axis, test, predicates: self.predicates()? })
    }

    fn test(&mut self) -> Result<Test, ()> {
        match self.next().ok_or(())? {
            Token::Sign("*") => Ok(Test::Any),
            Token::Name(name) if is_node_type(&name) && self.take("(") => {
                self.need(")")?;
                Ok(match name.as_str() {
                    "text" => Test::Text,
                    "comment" => Test::Comment,
                    _ => Test::Node,
                })
            }
            Token::Name(name) => Ok(Test::Name(name)),
            _ => Err(()),
        }
    }

    fn predicates(&mut self) -> Result<Vec<Expr>, ()> {
        let mut predicates = Vec::new();
        while self.take("[") {
            predicates.push(self.deeper(|parser| parser.binary(0))?);
            self.need("]")?;
        }
        Ok(predicates)
    }
}

fn is_node_type(name: &str) -> bool {
    matches!(name, "node" | "text" | "comment")
}
