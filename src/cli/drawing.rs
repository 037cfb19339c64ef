//! What drawings in SVG are made of: axes with round ticks, numbers and texts.

/// Colours that those who see fewer of them tell apart (Okabe and Ito).
pub const COLOURS: [&str; 7] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000"];

/// A range of values on a line of some length.
pub struct Axis {
    pub from: f64,
    pub to: f64,
    pub is_log: bool,
}

impl Axis {
    /// Where a value is, from 0 to 1.
    pub fn place(&self, value: f64) -> f64 {
        let f = |x: f64| if self.is_log { x.ln() } else { x };
        (f(value.clamp(self.from, self.to)) - f(self.from)) / (f(self.to) - f(self.from))
    }

    /// Round values along it.
    pub fn ticks(&self) -> Vec<f64> {
        let (from, to) = (self.from, self.to);
        if self.is_log {
            let decades = (from.log10().floor() as i32)..=(to.log10().ceil() as i32);
            let steps: &[f64] = if to / from > 1e3 { &[1.0] } else { &[1.0, 2.0, 5.0] };
            let all = decades.flat_map(|d| steps.iter().map(move |step| step * 10f64.powi(d)));
            return all.filter(|tick| (from * 0.999..=to * 1.001).contains(tick)).collect();
        }
        let rough = (to - from) / 5.0;
        let decade = 10f64.powf(rough.log10().floor());
        let step =
            [1.0, 2.0, 5.0, 10.0].map(|m| m * decade).into_iter().find(|s| *s >= rough).unwrap_or(rough);
        let first = (from / step).ceil() as i64;
        (first..first + 12).map(|i| i as f64 * step).take_while(|tick| *tick <= to + step * 1e-9).collect()
    }
}

/// A tick's number, with no more digits than it needs.
pub fn number(x: f64) -> String {
    if x != 0.0 && !(1e-4..1e6).contains(&x.abs()) {
        return format!("{x:.0e}");
    }
    let text = format!("{x:.6}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text.is_empty() || text == "-0" { "0".into() } else { text.into() }
}

/// Text as it may stand in XML.
pub fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            // Not even as references are they allowed.
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round() {
        let ticks = |from, to, is_log| Axis { from, to, is_log }.ticks();
        let close = |a: Vec<f64>, b: &[f64]| {
            assert!(a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-9), "{a:?}");
        };
        close(ticks(0.0, 1.0, false), &[0.0, 0.2, 0.4, 0.6, 0.8, 1.0]);
        close(ticks(5.93, 6.21, false), &[6.0, 6.1, 6.2]);
        close(ticks(0.003, 0.06, true), &[0.005, 0.01, 0.02, 0.05]);
        close(ticks(1e-5, 1.0, true), &[1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0]);
    }

    #[test]
    fn numbers_have_the_digits_they_need() {
        let numbers = [0.0, -0.0, 0.005, 2.0, 5.95, 120.0, 1e-5].map(number);
        assert_eq!(numbers, ["0", "0", "0.005", "2", "5.95", "120", "1e-5"]);
    }

    #[test]
    fn names_cannot_leave_their_element() {
        assert_eq!(escaped("a<b>&\"\u{1}\u{1b}"), "a&lt;b&gt;&amp;&quot;\u{fffd}\u{fffd}");
    }
}
