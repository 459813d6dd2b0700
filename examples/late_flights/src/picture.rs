//! A line of numbers as one line of text.

const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The means of `width` equal parts, each as a block of its height; parts without a finite number are blank.
pub fn sparkline(values: &[f64], width: usize) -> String {
    let parts = width.min(values.len()).max(1);
    let means: Vec<f64> = (0..parts)
        .map(|part| {
            let range = values.len() * part / parts..values.len() * (part + 1) / parts;
            let finite: Vec<f64> = values[range]
                .iter()
                .copied()
                .filter(|v| v.is_finite())
                .collect();
            finite.iter().sum::<f64>() / finite.len() as f64
        })
        .collect();
    let least = means.iter().copied().fold(f64::INFINITY, f64::min);
    let greatest = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let height = (greatest - least).max(f64::MIN_POSITIVE);
    means
        .iter()
        .map(|mean| match (mean - least) / height * 7.0 {
            level if level.is_nan() => ' ',
            level => LEVELS[(level.round() as usize).min(7)],
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heights_follow_the_values() {
        assert_eq!(sparkline(&[0.0, 1.0, 2.0, 7.0], 4), "▁▂▃█");
        assert_eq!(sparkline(&[3.0; 10], 2), "▁▁");
        assert_eq!(sparkline(&[1.0, f64::NAN, 0.0], 3), "█ ▁");
        assert_eq!(sparkline(&[], 4), " ");
    }
}
