//! The curve of the loss, drawn as SVG.

use std::fmt::Write;

use crate::cli::drawing::{Axis, COLOURS, escaped, number};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const TOP: f64 = 70.0;
/// The inside of the panel.
const PANEL: (f64, f64) = (660.0, 290.0);

/// A line: its name, and steps with their losses.
pub type Line<'a> = (&'a str, &'a [(f64, f64)]);

/// Whether `content` is a drawing of [`svg`].
pub fn is_curve(content: &[u8]) -> bool {
    let empty = svg("", 1, &[]);
    let head: Vec<&str> = empty.lines().take(2).collect();
    content.starts_with(head.join("\n").as_bytes())
}

/// Draws lines of losses over `n_steps` steps.
pub fn svg(title: &str, n_steps: usize, lines: &[Line<'_>]) -> String {
    let mut svg = String::new();
    let mut put = |line: std::fmt::Arguments<'_>| {
        svg.write_fmt(line).and_then(|()| svg.write_char('\n')).expect("strings take everything");
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, 'Helvetica Neue', Arial, sans-serif\" font-size=\"12\" fill=\"#222\">"
    ));
    put(format_args!("<title>Loss</title>"));
    put(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"));
    put(format_args!(
        "<text x=\"24\" y=\"30\" font-size=\"17\" font-weight=\"600\">{}</text>",
        escaped(title)
    ));
    let losses = || lines.iter().flat_map(|(_, points)| *points).map(|(_, loss)| *loss);
    let (least, most) = (losses().fold(f64::INFINITY, f64::min), losses().fold(0.0, f64::max));
    let is_log = least > 0.0 && least < most / 20.0;
    let y = match is_log {
        true => Axis { from: least / 1.2, to: most * 1.2, is_log },
        false => Axis { from: 0.0, to: if most > 0.0 { most * 1.08 } else { 1.0 }, is_log },
    };
    let x = Axis { from: 0.0, to: n_steps.max(1) as f64, is_log: false };
    let at = |step: f64, loss: f64| (LEFT + PANEL.0 * x.place(step), TOP + PANEL.1 * (1.0 - y.place(loss)));
    let (right, bottom) = (LEFT + PANEL.0, TOP + PANEL.1);
    for tick in y.ticks() {
        let (_, y) = at(0.0, tick);
        put(format_args!("<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#e6e6e6\"/>"));
        let (x, y) = (LEFT - 8.0, y + 4.0);
        put(format_args!("<text x=\"{x}\" y=\"{y:.1}\" text-anchor=\"end\">{}</text>", number(tick)));
    }
    for tick in x.ticks() {
        let (x, _) = at(tick, y.from);
        put(format_args!("<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#f0f0f0\"/>"));
        let y = bottom + 18.0;
        put(format_args!("<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>", number(tick)));
    }
    put(format_args!("<path d=\"M{LEFT} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#444\"/>"));
    let (middle, below) = (LEFT + PANEL.0 / 2.0, bottom + 38.0);
    put(format_args!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">step</text>"));
    put(format_args!(
        "<text x=\"{LEFT}\" y=\"{}\" font-weight=\"600\">Loss (nats a token)</text>",
        TOP - 10.0
    ));
    let mut legend = right;
    for ((name, points), colour) in
        lines.iter().zip(COLOURS).rev().filter(|((_, points), _)| !points.is_empty())
    {
        let places: Vec<String> = points
            .iter()
            .map(|(step, loss)| at(*step, *loss))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        put(format_args!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.6\" stroke-linejoin=\"round\"/>",
            places.join(" ")
        ));
        // A few points are seen better as such.
        for (x, y) in points.iter().filter(|_| points.len() <= 60).map(|(step, loss)| at(*step, *loss)) {
            put(format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.6\" fill=\"{colour}\"/>"));
        }
        let y = TOP - 10.0;
        put(format_args!(
            "<text x=\"{legend}\" y=\"{y}\" text-anchor=\"end\" fill=\"{colour}\" font-weight=\"500\">{}</text>",
            escaped(name)
        ));
        legend -= 7.5 * name.chars().count() as f64 + 16.0;
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_point_is_inside_the_panel() {
        let train: Vec<(f64, f64)> = (1..=100).map(|i| (f64::from(i), 4.0 / f64::from(i))).collect();
        let drawn = svg("a <b>", 100, &[("training", &train), ("validation", &[(0.0, 4.0), (100.0, 0.05)])]);
        assert!(is_curve(drawn.as_bytes()) && !is_curve(&drawn.as_bytes()[1..]) && !is_curve(b""));
        assert_eq!(drawn.matches("<polyline").count(), 2);
        assert!(drawn.contains("a &lt;b&gt;") && drawn.ends_with("</svg>\n"));
        let points =
            drawn.lines().filter_map(|line| line.strip_prefix("<polyline points=\"")?.split('"').next());
        for point in points.flat_map(|points| points.split(' ')) {
            let (x, y) = point.split_once(',').unwrap();
            let (x, y): (f64, f64) = (x.parse().unwrap(), y.parse().unwrap());
            assert!((LEFT..=LEFT + PANEL.0).contains(&x) && (TOP..=TOP + PANEL.1).contains(&y), "{point}");
        }
    }

    #[test]
    fn there_may_be_nothing_to_draw_yet() {
        assert!(svg("none", 10, &[("training", &[])]).contains("step"));
    }
}
