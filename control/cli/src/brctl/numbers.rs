//! Numbers as scanf(3) reads them: what stands before the first character that does not fit.

/// `%lf` seconds, in hundredths; negative ones and such that are no number at all are `None`.
pub(super) fn hundredths(text: &str) -> Option<i128> {
    let text = text.trim_start();
    let unsigned = text.trim_start_matches(['+', '-']);
    let digits = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let number = unsigned.get(..digits).filter(|_| text.len() - unsigned.len() <= 1)?;
    let number = number.match_indices('.').nth(1).map_or(number, |(second, _)| &number[..second]);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && part.is_empty() {
        return None;
    }
    // Nobody means more seconds than these, and no digit is lost on the way.
    let whole = whole.parse::<u64>().or_else(|error| if whole.is_empty() { Ok(0) } else { Err(error) });
    let whole = i128::from(whole.unwrap_or(u64::MAX));
    let part: String = part.chars().chain("00".chars()).take(2).collect();
    let value = whole * 100 + part.parse::<i128>().unwrap_or(0);
    Some(if text.starts_with('-') { -value } else { value })
}

/// `%i`: decimal, `0x` hexadecimal or `0` octal.
pub(super) fn integer(text: &str) -> Option<i64> {
    let text = text.trim_start();
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = unsigned.strip_prefix("0x").or_else(|| unsigned.strip_prefix("0X"));
    let (radix, digits) = match hex {
        Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, digits),
        None if unsigned.len() > 1 && unsigned.starts_with('0') => (8, unsigned),
        _ => (10, unsigned),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let digits = digits.get(..end).filter(|digits| !digits.is_empty())?;
    let value = i64::from_str_radix(digits, radix).unwrap_or(i64::MAX);
    Some(if negative { -value } else { value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_read_as_far_as_they_go() {
        let cases = [
            ("10", Some(1000)),
            ("1.5", Some(150)),
            ("1.239", Some(123)),
            ("10x", Some(1000)),
            (".5", Some(50)),
            ("2.", Some(200)),
            ("1.2.3", Some(120)),
            ("-5", Some(-500)),
            (" +7", Some(700)),
            ("abc", None),
            ("", None),
            (".", None),
            ("--5", None),
        ];
        for (text, expected) in cases {
            assert_eq!(hundredths(text), expected, "{text}");
        }
        assert!(hundredths("99999999999999999999999").is_some_and(|value| value > i128::from(u64::MAX)));
    }

    #[test]
    fn integers_have_three_bases() {
        let cases = [
            ("4096", Some(4096)),
            ("0x1000", Some(4096)),
            ("010", Some(8)),
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("63abc", Some(63)),
            ("0x", Some(0)),
            ("09", Some(0)),
            ("x", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(integer(text), expected, "{text}");
        }
        assert_eq!(integer("99999999999999999999999"), Some(i64::MAX));
    }
}
