//! `%41` is `A`: how a URL, and a record beside kept bytes, writes a byte that would mean something else there. Pure.
//! Used by `cli` and `write`.

/// The bytes that the text stands for; none if a `%` has no two hexadecimal digits behind it.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.iter();
    while let Some(&byte) = bytes.next() {
        if byte != b'%' {
            plain.push(byte);
            continue;
        }
        let mut digit = || char::from(*bytes.next()?).to_digit(16);
        plain.push(u8::try_from(digit()? * 16 + digit()?).ok()?);
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percent_sign_has_two_digits_behind_it_or_the_text_is_none() {
        assert_eq!(decode(b"a%41%fF%25").unwrap(), b"aA\xff%");
        for cut in ["%", "%4", "%4g", "a%", "%+1"] {
            assert_eq!(decode(cut.as_bytes()), None, "{cut}");
        }
    }
}
