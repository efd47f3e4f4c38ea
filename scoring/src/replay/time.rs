//! Times as people write them in CSV files.

/// Numbers below this are seconds (it is the year 5138), others milliseconds (since 1973).
const SECONDS_BELOW: f64 = 1e11;

/// Unix milliseconds of RFC 3339, of `YYYY-MM-DD HH:MM:SS[.f]` in UTC, or of Unix seconds or milliseconds.
pub(super) fn parse(text: &str) -> Option<i64> {
    if let Ok(number) = text.parse::<f64>() {
        let ms = if number.abs() < SECONDS_BELOW { number * 1000.0 } else { number };
        return (ms.abs() < i64::MAX as f64).then_some(ms.round() as i64);
    }
    if let Ok(ms) = vedette_protocol::time::parse_ms(text) {
        return Some(ms);
    }
    let civil: jiff::civil::DateTime = text.parse().ok()?;
    Some(civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn the_forms_that_files_have_mean_the_same_moment() {
        let moment = Some(1_397_135_700_000);
        for text in [
            "2014-04-10T13:15:00Z",
            "2014-04-10 13:15:00",
            "2014-04-10 13:15:00.000000",
            "2014-04-10T15:15:00+02:00",
            "1397135700",
            "1397135700000",
            "1397135700.0",
        ] {
            assert_eq!(parse(text), moment, "{text}");
        }
        for text in ["", "yesterday", "2014-13-10 13:15:00", "inf", "nan", "1e300"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
