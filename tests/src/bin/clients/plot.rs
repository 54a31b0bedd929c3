//! A plot of a viewer on a link that gets narrow and wide again, as SVG.

use std::fmt::Write as _;

/// Size of the picture, and where its two parts lie.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 440.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 880.0;
const RATES: (f64, f64) = (48.0, 270.0);
const LAYERS: (f64, f64) = (316.0, 396.0);
/// What the upper part shows, in kbit/s; one decade is as high as another.
const RATE_RANGE: (f64, f64) = (100.0, 10_000.0);
const RATE_MARKS: [(f64, &str); 7] = [
    (100.0, "0.1"),
    (300.0, "0.3"),
    (500.0, "0.5"),
    (1000.0, "1"),
    (2000.0, "2"),
    (4000.0, "4"),
    (8000.0, "8"),
];
const CAPACITY: &str = "#7a8794";
const RECEIVED: &str = "#1f6fb2";
const LAYER: &str = "#2f7d4f";
const FREEZE: &str = "#c0392b";

/// What was seen at one time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Seconds from the beginning.
    pub at: f64,
    /// What the link carries, in kbit/s.
    pub capacity: f64,
    /// What came of the picture since the point before, in kbit/s.
    pub received: f64,
    /// Lines of the picture.
    pub height: u64,
    /// Freezes since the point before.
    pub freezes: u64,
}

/// Draws them; `heights` are those of the layers, best first.
pub fn draw(points: &[Point], heights: &[u64]) -> String {
    let end = points.last().map_or(1.0, |point| point.at.max(1.0));
    let x = |at: f64| LEFT + (RIGHT - LEFT) * at / end;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<title>Link, picture received and layer over time</title>\n\
         <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n"
    );
    for (rate, label) in RATE_MARKS {
        mark(&mut svg, rate_y(rate), label);
    }
    for (index, height) in heights.iter().enumerate() {
        mark(&mut svg, layer_y(index, heights.len()), &height.to_string());
    }
    let step = (end / 10.0 / 10.0).ceil() * 10.0;
    for second in (0..).map(|index| f64::from(index) * step).take_while(|at| *at <= end) {
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.0}\" text-anchor=\"middle\" fill=\"#333333\">{second:.0} s</text>",
            x(second),
            LAYERS.1 + 26.0
        );
    }
    legend(&mut svg);
    let capacity = points.iter().map(|point| (x(point.at), rate_y(point.capacity)));
    path(&mut svg, &stairs(capacity), CAPACITY, 1.5);
    let received = points.iter().map(|point| (x(point.at), rate_y(point.received)));
    path(&mut svg, &received.collect::<Vec<_>>(), RECEIVED, 1.5);
    let layers = points.iter().filter_map(|point| {
        let index = heights.iter().position(|height| *height == point.height)?;
        Some((x(point.at), layer_y(index, heights.len())))
    });
    path(&mut svg, &stairs(layers), LAYER, 2.5);
    for point in points.iter().filter(|point| point.freezes > 0) {
        let _ = writeln!(
            svg,
            "<path d=\"M{0:.1} {1:.0}V{2:.0}\" stroke=\"{FREEZE}\" stroke-width=\"2\"/>",
            x(point.at),
            LAYERS.0 - 14.0,
            LAYERS.0 - 4.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn rate_y(rate: f64) -> f64 {
    let (least, most) = RATE_RANGE;
    let share = (rate.clamp(least, most) / least).ln() / (most / least).ln();
    RATES.1 - (RATES.1 - RATES.0) * share
}

fn layer_y(index: usize, count: usize) -> f64 {
    let gaps = count.saturating_sub(1).max(1) as f64;
    LAYERS.0 + (LAYERS.1 - LAYERS.0) * index as f64 / gaps
}

/// A line across with what it stands for at its left.
fn mark(svg: &mut String, y: f64, label: &str) {
    let _ = writeln!(
        svg,
        "<path d=\"M{LEFT} {y:.1}H{RIGHT}\" stroke=\"#dddddd\"/><text x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" \
         fill=\"#333333\">{label}</text>",
        LEFT - 8.0,
        y + 4.0
    );
}

fn legend(svg: &mut String) {
    let words = [
        (CAPACITY, "link, Mbit/s"),
        (RECEIVED, "picture received, Mbit/s"),
        (LAYER, "layer, lines"),
        (FREEZE, "freeze"),
    ];
    for ((colour, word), left) in words.into_iter().zip([64.0, 200.0, 400.0, 530.0]) {
        let _ = writeln!(
            svg,
            "<rect x=\"{left}\" y=\"16\" width=\"14\" height=\"6\" fill=\"{colour}\"/><text x=\"{}\" y=\"24\" \
             fill=\"#333333\">{word}</text>",
            left + 20.0
        );
    }
}

/// Each value holds until the next one.
fn stairs(points: impl Iterator<Item = (f64, f64)>) -> Vec<(f64, f64)> {
    let mut steps: Vec<(f64, f64)> = Vec::new();
    for (x, y) in points {
        if let Some(&(_, before)) = steps.last() {
            steps.push((x, before));
        }
        steps.push((x, y));
    }
    steps
}

fn path(svg: &mut String, points: &[(f64, f64)], colour: &str, width: f64) {
    let places: Vec<String> = points.iter().map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
    if !places.is_empty() {
        let _ = writeln!(
            svg,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
            places.join("L")
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_it_is_within_the_picture() {
        let point =
            |at, capacity, received, height, freezes| Point { at, capacity, received, height, freezes };
        let points = [
            point(0.0, 8000.0, 0.0, 540, 0),
            point(1.0, 8000.0, 1e6, 540, 0),
            point(2.0, 300.0, 180.0, 135, 1),
            point(3.0, 300.0, 170.0, 0, 0),
        ];
        let svg = draw(&points, &[540, 270, 135]);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"), "{svg}");
        assert_eq!(svg.matches(FREEZE).count(), 2, "one in the legend, one where it froze: {svg}");
        for line in svg.lines().filter_map(|line| line.split_once("d=\"M")).map(|(_, rest)| rest) {
            let numbers = line.split('"').next().unwrap().split([' ', 'L', 'H', 'V']);
            for number in numbers.map(|number| number.parse::<f64>().unwrap()) {
                assert!((0.0..=WIDTH).contains(&number), "{line}");
            }
        }
        // The layer drops at the third point, by two steps.
        let drop = format!("{:.1} {:.1}L{:.1} {:.1}", x_of(2.0), LAYERS.0, x_of(2.0), LAYERS.1);
        assert!(svg.contains(&drop), "{drop} in {svg}");
    }

    fn x_of(at: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * at / 3.0
    }

    #[test]
    fn nothing_draws_nothing() {
        let svg = draw(&[], &[]);
        assert!(svg.ends_with("</svg>\n"), "{svg}");
    }
}
