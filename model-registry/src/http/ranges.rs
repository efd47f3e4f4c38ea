//! Reading `Range` and the conditions around it (RFC 9110 §13, §14), for one range of bytes.

use axum::http::HeaderMap;
use axum::http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};

/// What part of a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// `length` bytes from `offset`, both inside the file, `length` at least 1.
    Bytes {
        /// First byte.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// None: the caller has it.
    NotModified,
    /// A range beyond the file's end.
    Outside,
}

/// Decides by the headers. Several ranges, other units and what cannot be read mean the whole file, as the RFC allows.
pub(super) fn part(headers: &HeaderMap, etag: &str, total: u64) -> Part {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(known) = text(IF_NONE_MATCH) {
        let matches = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
        if known.split(',').map(str::trim).any(matches) {
            return Part::NotModified;
        }
    }
    let Some(range) = text(RANGE).and_then(|range| range.strip_prefix("bytes=")) else {
        return Part::Whole;
    };
    if text(IF_RANGE).is_some_and(|condition| condition != etag) {
        return Part::Whole;
    }
    read(range, total)
}

fn read(range: &str, total: u64) -> Part {
    let Some((first, last)) = range.split_once('-').filter(|_| !range.contains(',')) else {
        return Part::Whole;
    };
    let (offset, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        // The last bytes of the file.
        (Err(_), Ok(suffix)) if first.is_empty() => (total.saturating_sub(suffix), total),
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(total)),
        (Ok(first), Err(_)) if last.is_empty() => (first, total),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => return Part::Whole,
    };
    if offset >= end {
        return Part::Outside;
    }
    Part::Bytes { offset, length: end - offset }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const TAG: &str = "\"sha256:aa\"";

    fn with(pairs: &[(axum::http::HeaderName, &str)]) -> Part {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name.clone(), value.parse().unwrap());
        }
        part(&headers, TAG, 100)
    }

    #[test]
    fn a_range_is_cut_to_the_file() {
        for (range, offset, length) in [
            ("bytes=0-9", 0, 10),
            ("bytes=90-", 90, 10),
            ("bytes=95-200", 95, 5),
            ("bytes=-10", 90, 10),
            ("bytes=-500", 0, 100),
            ("bytes=99-99", 99, 1),
        ] {
            assert_eq!(with(&[(RANGE, range)]), Part::Bytes { offset, length }, "{range}");
        }
    }

    #[test]
    fn beyond_the_end_there_is_nothing() {
        for range in ["bytes=100-", "bytes=100-200", "bytes=-0"] {
            assert_eq!(with(&[(RANGE, range)]), Part::Outside, "{range}");
        }
    }

    #[test]
    fn what_cannot_be_read_means_the_whole_file() {
        for range in
            ["bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-6", "rows=0-1", "bytes=a-b", "bytes=99999999999999999999-"]
        {
            assert_eq!(with(&[(RANGE, range)]), Part::Whole, "{range}");
        }
    }

    #[test]
    fn conditions_hold_against_the_digest() {
        assert_eq!(with(&[(IF_NONE_MATCH, TAG)]), Part::NotModified);
        assert_eq!(with(&[(IF_NONE_MATCH, "\"other\", W/\"sha256:aa\"")]), Part::NotModified);
        assert_eq!(with(&[(IF_NONE_MATCH, "\"other\"")]), Part::Whole);
        assert_eq!(with(&[(RANGE, "bytes=0-0"), (IF_RANGE, "\"other\"")]), Part::Whole);
        assert_eq!(with(&[(RANGE, "bytes=0-0"), (IF_RANGE, TAG)]), Part::Bytes { offset: 0, length: 1 });
    }
}
