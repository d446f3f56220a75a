//! Sizes as text for people: rounded, unlike those that files have (`parse_units.rs`).

/// The size with three digits at most, as in `64 MiB` or `1.5 GiB`.
pub fn shown_bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    let text = match value {
        _ if unit == 0 => format!("{value:.0}"),
        large if large >= 100.0 => format!("{large:.0}"),
        small => format!("{small:.1}"),
    };
    let text = text.strip_suffix(".0").unwrap_or(&text);
    format!("{text} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_for_people() {
        let shown = [0, 1023, 1 << 20, 64 << 20, 3 << 29, 67_100_000].map(shown_bytes);
        assert_eq!(
            shown,
            ["0 B", "1023 B", "1 MiB", "64 MiB", "1.5 GiB", "64 MiB"]
        );
    }
}
