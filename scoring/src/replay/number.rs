//! Numbers as most files have them: digits, perhaps with a sign and a point.

/// Digits whose number fits f64 without rounding.
const DIGITS_MAX: usize = 15;
/// Powers of ten that are exact in f64.
const POWERS: [f64; DIGITS_MAX + 1] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
/// The bits of an f64 beyond an f32, and what they are half-way between two f32.
const BEYOND: u64 = (1 << 29) - 1;
const HALF: u64 = 1 << 28;
/// Above this an f64 of ours is a normal f32: no such number is smaller but 0.
const NORMAL: f64 = 1e-30;

/// The f32 nearest to a plain number; `None` for anything else, which the standard library is to read.
///
/// Digits and power of ten are exact in f64, so their quotient is rounded once (Clinger, "How to read floating point
/// numbers accurately", 1990). Rounding it again to f32 is right unless it lies just half-way between two.
pub(super) fn plain(field: &[u8]) -> Option<f32> {
    let (digits, negative) = match field {
        [b'-', digits @ ..] => (digits, true),
        digits => (digits, false),
    };
    if digits.is_empty() || digits.len() > DIGITS_MAX + 1 {
        return None;
    }
    let (mut number, mut seen, mut behind) = (0_u64, 0_usize, None);
    for byte in digits {
        match byte {
            b'0'..=b'9' => {
                number = number * 10 + u64::from(byte - b'0');
                seen += 1;
            }
            b'.' if behind.is_none() => behind = Some(seen),
            _ => return None,
        }
    }
    if seen == 0 || seen > DIGITS_MAX {
        return None;
    }
    let power = POWERS.get(behind.map_or(0, |before| seen - before))?;
    let exact = number as f64 / power;
    if exact.to_bits() & BEYOND == HALF || (number != 0 && exact < NORMAL) {
        return None;
    }
    let number = exact as f32;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::plain;

    #[test]
    fn plain_numbers_are_those_of_the_standard_library_bit_for_bit() {
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut read = 0;
        for _ in 0..200_000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let digits = (random >> 20) % 10_u64.pow((random >> 8) as u32 % 15 + 1);
            let behind = (random >> 3) as u32 % 12;
            let whole = digits / 10_u64.pow(behind);
            let text = format!("{whole}.{:0width$}", digits % 10_u64.pow(behind), width = behind as usize);
            for text in [format!("-{text}"), digits.to_string(), text] {
                if let Some(number) = plain(text.as_bytes()) {
                    assert_eq!(number.to_bits(), text.parse::<f32>().unwrap_or(f32::NAN).to_bits(), "{text}");
                    read += 1;
                }
            }
        }
        assert!(read > 400_000, "{read}");
    }

    #[test]
    fn half_way_numbers_and_odd_ones_are_left_to_the_standard_library() {
        // 2^24 + 1 lies half-way between two f32.
        for text in ["16777217", "", "-", ".", "1e5", "+1", "1.2.3", "nan", " 1", "12345678901234567", "0x1"] {
            assert_eq!(plain(text.as_bytes()), None, "{text}");
        }
        assert_eq!((plain(b"5."), plain(b".5"), plain(b"-0")), (Some(5.0), Some(0.5), Some(-0.0)));
    }
}
