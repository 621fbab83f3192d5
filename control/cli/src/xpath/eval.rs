//! Values of expressions.

use roxmltree::{Attribute, Document, Node};

use super::parse::{Axis, Expr, Operator, Step, Test};

/// A node of the document, or an attribute, which roxmltree does not count among nodes.
#[derive(Clone, Copy, Debug)]
pub(super) enum Item<'a, 'i> {
    Node(Node<'a, 'i>),
    Attribute(Node<'a, 'i>, usize, Attribute<'a, 'i>),
}

impl<'a, 'i> Item<'a, 'i> {
    /// Document order.
    fn key(&self) -> (u32, usize) {
        match self {
            Self::Node(node) => (node.id().get(), 0),
            Self::Attribute(owner, index, _) => (owner.id().get(), index + 1),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Attribute(.., attribute) => attribute.value().to_owned(),
            Self::Node(node) if node.is_element() || node.is_root() => {
                node.descendants().filter(Node::is_text).filter_map(|text| text.text()).collect()
            }
            Self::Node(node) => node.text().unwrap_or_default().to_owned(),
        }
    }

    fn name(&self) -> &'a str {
        match self {
            Self::Attribute(.., attribute) => attribute.name(),
            Self::Node(node) => node.tag_name().name(),
        }
    }

    fn namespace(&self) -> Option<&'a str> {
        match self {
            Self::Attribute(.., attribute) => attribute.namespace(),
            Self::Node(node) => node.tag_name().namespace(),
        }
    }

    fn attributes(owner: Node<'a, 'i>) -> impl Iterator<Item = Self> {
        owner.attributes().enumerate().map(move |(index, attribute)| Self::Attribute(owner, index, attribute))
    }
}

#[derive(Debug)]
enum Value<'a, 'i> {
    Nodes(Vec<Item<'a, 'i>>),
    Number(f64),
    Text(String),
    Truth(bool),
}

impl Value<'_, '_> {
    fn truth(&self) -> bool {
        match self {
            Self::Nodes(nodes) => !nodes.is_empty(),
            Self::Number(number) => *number != 0.0 && !number.is_nan(),
            Self::Text(text) => !text.is_empty(),
            Self::Truth(truth) => *truth,
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Nodes(nodes) => nodes.first().map(Item::text).unwrap_or_default(),
            Self::Number(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::Truth(truth) => truth.to_string(),
        }
    }

    fn number(&self) -> f64 {
        match self {
            Self::Number(number) => *number,
            Self::Truth(truth) => f64::from(u8::from(*truth)),
            other => other.text().trim().parse().unwrap_or(f64::NAN),
        }
    }
}

#[derive(Clone, Copy)]
struct Context<'a, 'i> {
    item: Item<'a, 'i>,
    position: usize,
    last: usize,
}

/// The nodes an expression picks, in document order; the root element is where relative paths begin.
pub(super) fn nodes<'a, 'i>(document: &'a Document<'i>, expr: &Expr) -> Result<Vec<Item<'a, 'i>>, ()> {
    let item = Item::Node(document.root_element());
    match eval(expr, Context { item, position: 1, last: 1 })? {
        Value::Nodes(nodes) => Ok(nodes),
        _ => Err(()),
    }
}

fn eval<'a, 'i>(expr: &Expr, context: Context<'a, 'i>) -> Result<Value<'a, 'i>, ()> {
    match expr {
        Expr::Number(number) => Ok(Value::Number(*number)),
        Expr::Text(text) => Ok(Value::Text(text.clone())),
        Expr::Negative(inner) => Ok(Value::Number(-eval(inner, context)?.number())),
        Expr::Binary(operator, left, right) => binary(*operator, left, right, context),
        Expr::Call(name, arguments) => call(name, arguments, context),
        Expr::Path(path) => {
            let start = if path.absolute { root(context.item) } else { context.item };
            walk(vec![start], &path.steps).map(Value::Nodes)
        }
        Expr::Filter { of, predicates, steps } => {
            let Value::Nodes(mut nodes) = eval(of, context)? else {
                return Err(());
            };
            for predicate in predicates {
                nodes = keep(nodes, predicate)?;
            }
            walk(nodes, steps).map(Value::Nodes)
        }
    }
}

fn root<'a, 'i>(item: Item<'a, 'i>) -> Item<'a, 'i> {
    let (Item::Node(node) | Item::Attribute(node, ..)) = item;
    Item::Node(node.document().root())
}

fn walk<'a, 'i>(mut items: Vec<Item<'a, 'i>>, steps: &[Step]) -> Result<Vec<Item<'a, 'i>>, ()> {
    for step in steps {
        let mut found = Vec::new();
        for item in items {
            let mut near = along(step.axis, item);
            near.retain(|item| passes(step, item));
            for predicate in &step.predicates {
                near = keep(near, predicate)?;
            }
            found.extend(near);
        }
        items = ordered(found);
    }
    Ok(items)
}

fn ordered<'a, 'i>(mut items: Vec<Item<'a, 'i>>) -> Vec<Item<'a, 'i>> {
    items.sort_by_key(Item::key);
    items.dedup_by_key(|item| item.key());
    items
}

/// What lies on an axis, nearest first.
fn along<'a, 'i>(axis: Axis, item: Item<'a, 'i>) -> Vec<Item<'a, 'i>> {
    let node = match (item, axis) {
        (Item::Node(node), _) => node,
        (_, Axis::Own | Axis::DescendantOrSelf) => return vec![item],
        (Item::Attribute(owner, ..), Axis::Parent) => return vec![Item::Node(owner)],
        (Item::Attribute(owner, ..), Axis::Ancestor) => return owner.ancestors().map(Item::Node).collect(),
        (Item::Attribute(owner, ..), Axis::AncestorOrSelf) => {
            return std::iter::once(item).chain(owner.ancestors().map(Item::Node)).collect();
        }
        _ => return Vec::new(),
    };
    match axis {
        Axis::Child => node.children().map(Item::Node).collect(),
        Axis::Descendant => node.descendants().skip(1).map(Item::Node).collect(),
        Axis::DescendantOrSelf => node.descendants().map(Item::Node).collect(),
        Axis::Parent => node.parent().map(Item::Node).into_iter().collect(),
        Axis::Ancestor => node.ancestors().skip(1).map(Item::Node).collect(),
        Axis::AncestorOrSelf => node.ancestors().map(Item::Node).collect(),
        Axis::Own => vec![item],
        Axis::Attribute => Item::attributes(node).collect(),
        Axis::FollowingSibling => node.next_siblings().skip(1).map(Item::Node).collect(),
        Axis::PrecedingSibling => node.prev_siblings().skip(1).map(Item::Node).collect(),
    }
}

fn passes(step: &Step, item: &Item<'_, '_>) -> bool {
    let principal = match item {
        Item::Attribute(..) => step.axis == Axis::Attribute,
        Item::Node(node) => node.is_element(),
    };
    match (&step.test, item) {
        (Test::Name(name), _) => principal && item.name() == name && item.namespace().is_none(),
        (Test::Any, _) => principal,
        // Blank text between elements is layout; virsh's parser drops it.
        (Test::Node, Item::Node(node)) => !is_layout(node),
        (Test::Node, Item::Attribute(..)) => true,
        (Test::Text, Item::Node(node)) => node.is_text() && !is_layout(node),
        (Test::Comment, Item::Node(node)) => node.is_comment(),
        _ => false,
    }
}

pub(super) fn is_layout(node: &Node<'_, '_>) -> bool {
    let blank = |text: &str| text.chars().all(char::is_whitespace);
    let alone = || node.parent().is_some_and(|parent| parent.children().count() == 1);
    node.is_text() && node.text().is_some_and(blank) && !alone()
}

fn keep<'a, 'i>(items: Vec<Item<'a, 'i>>, predicate: &Expr) -> Result<Vec<Item<'a, 'i>>, ()> {
    let last = items.len();
    let mut kept = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let position = index + 1;
        let chosen = match eval(predicate, Context { item, position, last })? {
            Value::Number(number) => number == position as f64,
            other => other.truth(),
        };
        if chosen {
            kept.push(item);
        }
    }
    Ok(kept)
}

fn binary<'a, 'i>(
    operator: Operator,
    left: &Expr,
    right: &Expr,
    context: Context<'a, 'i>,
) -> Result<Value<'a, 'i>, ()> {
    let left = eval(left, context)?;
    match operator {
        Operator::Or if left.truth() => return Ok(Value::Truth(true)),
        Operator::And if !left.truth() => return Ok(Value::Truth(false)),
        _ => {}
    }
    let right = eval(right, context)?;
    let arithmetic = |work: fn(f64, f64) -> f64| Value::Number(work(left.number(), right.number()));
    Ok(match operator {
        Operator::Or | Operator::And => Value::Truth(right.truth()),
        Operator::Add => arithmetic(|a, b| a + b),
        Operator::Subtract => arithmetic(|a, b| a - b),
        Operator::Multiply => arithmetic(|a, b| a * b),
        Operator::Divide => arithmetic(|a, b| a / b),
        Operator::Modulo => arithmetic(|a, b| a % b),
        Operator::Union => match (left, right) {
            (Value::Nodes(mut nodes), Value::Nodes(others)) => {
                nodes.extend(others);
                Value::Nodes(ordered(nodes))
            }
            _ => return Err(()),
        },
        _ => Value::Truth(compare(operator, &left, &right)),
    })
}

/// Of sets it is enough that one node compares so.
fn compare(operator: Operator, left: &Value<'_, '_>, right: &Value<'_, '_>) -> bool {
    let each = |value: &Value<'_, '_>| match value {
        Value::Nodes(nodes) => Some(nodes.iter().map(|node| Value::Text(node.text())).collect::<Vec<_>>()),
        _ => None,
    };
    if let (Some(ones), false) = (each(left), matches!(right, Value::Truth(_))) {
        return ones.iter().any(|one| compare(operator, one, right));
    }
    if let (Some(others), false) = (each(right), matches!(left, Value::Truth(_))) {
        return others.iter().any(|other| compare(operator, left, other));
    }
    let (a, b) = (left.number(), right.number());
    let equal = match (left, right) {
        (Value::Truth(_), _) | (_, Value::Truth(_)) => left.truth() == right.truth(),
        (Value::Number(_), _) | (_, Value::Number(_)) => a == b,
        _ => left.text() == right.text(),
    };
    match operator {
        Operator::Equal => equal,
        Operator::Unequal => !equal,
        Operator::Less => a < b,
        Operator::LessEqual => a <= b,
        Operator::Greater => a > b,
        _ => a >= b,
    }
}

fn call<'a, 'i>(name: &str, arguments: &[Expr], context: Context<'a, 'i>) -> Result<Value<'a, 'i>, ()> {
    let values = arguments.iter().map(|argument| eval(argument, context)).collect::<Result<Vec<_>, ()>>()?;
    let own = Value::Nodes(vec![context.item]);
    match (name, values.as_slice()) {
        ("position", []) => Ok(Value::Number(context.position as f64)),
        ("last", []) => Ok(Value::Number(context.last as f64)),
        ("true", []) => Ok(Value::Truth(true)),
        ("false", []) => Ok(Value::Truth(false)),
        ("not", [one]) => Ok(Value::Truth(!one.truth())),
        ("boolean", [one]) => Ok(Value::Truth(one.truth())),
        ("count", [Value::Nodes(nodes)]) => Ok(Value::Number(nodes.len() as f64)),
        ("sum", [Value::Nodes(nodes)]) => {
            Ok(Value::Number(nodes.iter().map(|node| Value::Text(node.text()).number()).sum()))
        }
        ("name" | "local-name" | "namespace-uri", []) => node_name(name, &own),
        ("name" | "local-name" | "namespace-uri", [one]) => node_name(name, one),
        ("concat", [_, _, ..]) => Ok(Value::Text(values.iter().map(Value::text).collect())),
        ("number" | "string" | "string-length" | "normalize-space" | "floor" | "ceiling" | "round", rest) => {
            one_argument(name, rest, &own)
        }
        _ => two_arguments(name, &values),
    }
}

fn node_name<'a, 'i>(name: &str, of: &Value<'a, 'i>) -> Result<Value<'a, 'i>, ()> {
    let Value::Nodes(nodes) = of else {
        return Err(());
    };
    let first = nodes.first();
    let text = if name == "namespace-uri" {
        first.and_then(Item::namespace).unwrap_or_default().to_owned()
    } else {
        first.map_or_else(String::new, |item| match item {
            Item::Node(node) if name == "name" => super::print::qualified(*node),
            _ => item.name().to_owned(),
        })
    };
    Ok(Value::Text(text))
}

fn one_argument<'a, 'i>(
    name: &str,
    values: &[Value<'a, 'i>],
    own: &Value<'a, 'i>,
) -> Result<Value<'a, 'i>, ()> {
    let one = match (values, name) {
        ([one], _) => one,
        ([], "number" | "string" | "string-length" | "normalize-space") => own,
        _ => return Err(()),
    };
    Ok(match name {
        "number" => Value::Number(one.number()),
        "floor" => Value::Number(one.number().floor()),
        "ceiling" => Value::Number(one.number().ceil()),
        "round" => Value::Number((one.number() + 0.5).floor()),
        "string" => Value::Text(one.text()),
        "string-length" => Value::Number(one.text().chars().count() as f64),
        _ => Value::Text(one.text().split_whitespace().collect::<Vec<_>>().join(" ")),
    })
}

fn two_arguments<'a, 'i>(name: &str, values: &[Value<'a, 'i>]) -> Result<Value<'a, 'i>, ()> {
    let text = |index: usize| values.get(index).map(Value::text).unwrap_or_default();
    let (one, other) = (text(0), text(1));
    Ok(match (name, values.len()) {
        ("starts-with", 2) => Value::Truth(one.starts_with(&other)),
        ("contains", 2) => Value::Truth(one.contains(&other)),
        ("substring-before", 2) => {
            Value::Text(one.split_once(&other).map_or_else(String::new, |(before, _)| before.to_owned()))
        }
        ("substring-after", 2) => {
            Value::Text(one.split_once(&other).map_or_else(String::new, |(_, after)| after.to_owned()))
        }
        ("substring", 2 | 3) => {
            let from = (values.get(1).map_or(f64::NAN, Value::number) + 0.5).floor();
            let length = values.get(2).map_or(f64::INFINITY, |value| (value.number() + 0.5).floor());
            let within = |index: usize| (index + 1) as f64 >= from && ((index + 1) as f64) < from + length;
            Value::Text(one.chars().enumerate().filter(|(index, _)| within(*index)).map(|(_, c)| c).collect())
        }
        _ => return Err(()),
    })
}
