//! Quality against size, drawn as SVG: divergence on the left, perplexity on the right.

use std::fmt::Write;

use super::report::{Compared, Report};
use crate::cli::drawing::{Axis, COLOURS, escaped, number};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 450.0;
/// The inside of a panel.
const PANEL: (f64, f64) = (380.0, 290.0);
const TOP: f64 = 90.0;
const LEFTS: [f64; 2] = [74.0, 558.0];
/// A point with its error.
struct Point {
    x: f64,
    y: f64,
    error: f64,
    colour: &'static str,
    label: String,
}

/// Draws the report.
pub fn svg(report: &Report) -> String {
    let mut svg = String::new();
    let mut put = |line: std::fmt::Arguments<'_>| {
        svg.write_fmt(line).and_then(|()| svg.write_char('\n')).expect("strings take everything");
    };
    put(format_args!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" \
         font-family=\"system-ui, 'Helvetica Neue', Arial, sans-serif\" font-size=\"12\" fill=\"#222\">"
    ));
    put(format_args!("<title>Quality against size</title>"));
    put(format_args!("<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>"));
    put(format_args!(
        "<text x=\"24\" y=\"30\" font-size=\"17\" font-weight=\"600\">Quality against size</text>"
    ));
    let base = match report.first_is_base {
        true => format!(", compared with {}", report.names()[0]),
        false => String::new(),
    };
    let text = std::path::Path::new(&report.text).file_name().unwrap_or_default().to_string_lossy();
    put(format_args!(
        "<text x=\"24\" y=\"48\" fill=\"#666\">{}</text>",
        escaped(&format!("{text}: {} positions{base}", report.n_positions()))
    ));
    let names = names(report);
    let points = |y: &dyn Fn(&Compared) -> Option<(f64, f64)>| -> Vec<Point> {
        let models = report.models.iter().zip(&names).enumerate();
        models
            .filter_map(|(i, (model, name))| {
                let (y, error) = y(model)?;
                let x = model.n_bytes as f64;
                Some(Point { x, y, error, colour: COLOURS[i % COLOURS.len()], label: name.clone() })
            })
            .collect()
    };
    let kld = points(&|model| model.against.as_ref().map(|a| (a.kld().value, a.kld().error)));
    let ppl = points(&|model| Some((model.ppl.value, model.ppl.error)));
    Panel::new(LEFTS[0], &kld, true).draw("Mean KL divergence (nats)", &kld, &mut svg);
    Panel::new(LEFTS[1], &ppl, false).draw("Perplexity", &ppl, &mut svg);
    svg.push_str("</svg>\n");
    svg
}

/// A short name for each model: its quantization if no other has it, else its file's.
fn names(report: &Report) -> Vec<String> {
    let models = &report.models;
    let of = |(model, name): (&Compared, String)| {
        let same = models.iter().filter(|other| other.quantization == model.quantization).count();
        match same {
            1 => model.quantization.clone(),
            _ => name.trim_end_matches(".gguf").to_owned(),
        }
    };
    models.iter().zip(report.names()).map(of).map(|name| shortened(&name)).collect()
}

fn shortened(name: &str) -> String {
    const MOST: usize = 28;
    match name.chars().count() {
        n if n > MOST => format!("…{}", name.chars().skip(n - MOST + 1).collect::<String>()),
        _ => name.to_owned(),
    }
}

/// A box that a label must not touch: left, top, right, bottom.
type Area = [f64; 4];

struct Panel {
    left: f64,
    x: Axis,
    y: Axis,
    /// Bytes of the unit on the x axis, and its name.
    unit: (f64, &'static str),
}

impl Panel {
    /// A panel that has room for the points. Divergences that differ much are better seen on a logarithmic scale.
    fn new(left: f64, points: &[Point], log_if_wide: bool) -> Panel {
        let fold = |f: fn(f64, f64) -> f64, values: &mut dyn Iterator<Item = f64>| values.reduce(f);
        let most_x = fold(f64::max, &mut points.iter().map(|p| p.x)).unwrap_or(1.0);
        let least = fold(f64::min, &mut points.iter().map(|p| p.y)).unwrap_or(0.0);
        let most = fold(f64::max, &mut points.iter().map(|p| p.y + p.error)).unwrap_or(1.0);
        let is_log = log_if_wide && least > 0.0 && most / least > 8.0;
        let y = match is_log {
            true => Axis { from: least / 1.6, to: most * 1.6, is_log },
            false if log_if_wide => {
                Axis { from: 0.0, to: if most > 0.0 { most * 1.15 } else { 1.0 }, is_log }
            }
            false => {
                let low = fold(f64::min, &mut points.iter().map(|p| p.y - p.error)).unwrap_or(0.0);
                let room = ((most - low) * 0.15).max(most.abs() * 1e-3).max(1e-6);
                Axis { from: low - room, to: most + room, is_log }
            }
        };
        let unit = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
        let unit = unit.into_iter().find(|(bytes, _)| most_x >= *bytes).unwrap_or((1.0, "bytes"));
        Panel { left, x: Axis { from: 0.0, to: most_x / unit.0 * 1.12, is_log: false }, y, unit }
    }

    fn at(&self, point: &Point) -> (f64, f64) {
        self.place(point.x / self.unit.0, point.y)
    }

    fn place(&self, x: f64, y: f64) -> (f64, f64) {
        (self.left + PANEL.0 * self.x.place(x), TOP + PANEL.1 * (1.0 - self.y.place(y)))
    }

    fn draw(&self, title: &str, points: &[Point], svg: &mut String) {
        let mut put = |line: String| {
            svg.push_str(&line);
            svg.push('\n');
        };
        let (right, bottom) = (self.left + PANEL.0, TOP + PANEL.1);
        for tick in self.y.ticks() {
            let (_, y) = self.place(0.0, tick);
            put(format!("<path d=\"M{} {y:.1}H{right}\" stroke=\"#e6e6e6\"/>", self.left));
            put(format!(
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                self.left - 8.0,
                y + 4.0,
                number(tick)
            ));
        }
        for tick in self.x.ticks() {
            let x = self.left + PANEL.0 * self.x.place(tick);
            put(format!("<path d=\"M{x:.1} {TOP}V{bottom}\" stroke=\"#f0f0f0\"/>"));
            put(format!(
                "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 18.0,
                number(tick)
            ));
        }
        put(format!("<path d=\"M{} {TOP}V{bottom}H{right}\" fill=\"none\" stroke=\"#444\"/>", self.left));
        put(format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">size ({})</text>",
            self.left + PANEL.0 / 2.0,
            bottom + 38.0,
            self.unit.1
        ));
        put(format!("<text x=\"{}\" y=\"{}\" font-weight=\"600\">{title}</text>", self.left, TOP - 8.0));
        // What no other model beats in both.
        let mut best: Vec<&Point> = points
            .iter()
            .filter(|p| !points.iter().any(|o| (o.x < p.x && o.y <= p.y) || (o.x <= p.x && o.y < p.y)))
            .collect();
        best.sort_by(|a, b| a.x.total_cmp(&b.x));
        if best.len() > 1 {
            let line: Vec<_> =
                best.iter().map(|p| self.at(p)).map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            put(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"#999\" stroke-dasharray=\"4 4\"/>",
                line.join(" ")
            ));
        }
        let mut taken: Vec<Area> = points
            .iter()
            .map(|point| self.at(point))
            .map(|(x, y)| [x - 6.0, y - 6.0, x + 6.0, y + 6.0])
            .collect();
        for point in points {
            let (x, y) = self.at(point);
            if point.error > 0.0 {
                let (_, low) = self.place(0.0, point.y - point.error);
                let (_, high) = self.place(0.0, point.y + point.error);
                put(format!(
                    "<path d=\"M{x:.1} {low:.1}V{high:.1}M{0:.1} {low:.1}h6M{0:.1} {high:.1}h6\" stroke=\"{1}\"/>",
                    x - 3.0,
                    point.colour
                ));
            }
            put(format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4.5\" fill=\"{}\"/>", point.colour));
        }
        for point in points {
            let (x, y) = self.at(point);
            let width = 7.0 * point.label.chars().count() as f64;
            let area = self.room(x, y, width, &taken);
            taken.push(area);
            put(format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{}\" font-weight=\"500\" paint-order=\"stroke\" stroke=\"#fff\" \
                 stroke-width=\"3\">{}</text>",
                area[0],
                area[3] - 3.5,
                point.colour,
                escaped(&point.label)
            ));
        }
    }

    /// The place beside a point where a label touches the fewest others and stays inside.
    fn room(&self, x: f64, y: f64, width: f64, taken: &[Area]) -> Area {
        const LINE: f64 = 15.0;
        let mut places = Vec::new();
        for shift in [0.0, -14.0, 14.0, -28.0, 28.0, -42.0, 42.0] {
            let top = y - LINE / 2.0 + shift;
            for left in [x + 9.0, x - 9.0 - width, x - width / 2.0] {
                places.push([left, top, left + width, top + LINE]);
            }
        }
        let cost = |area: &Area| {
            let hits = |other: &&Area| {
                area[0] < other[2] && other[0] < area[2] && area[1] < other[3] && other[1] < area[3]
            };
            let inside = area[0] > self.left
                && area[2] < self.left + PANEL.0 + 24.0
                && area[1] > TOP - 4.0
                && area[3] < TOP + PANEL.1;
            taken.iter().filter(hits).count() + if inside { 0 } else { 3 }
        };
        let best = places.iter().min_by_key(|area| cost(area));
        *best.expect("there are places")
    }
}
