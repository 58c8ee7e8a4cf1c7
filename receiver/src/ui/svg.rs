//! Small charts that need no script: SVG without styles or scripts.

use std::fmt::Write;

const SPARK: (f64, f64) = (96.0, 28.0);
const BULLET: (f64, f64) = (160.0, 12.0);

/// A sparkline; empty if there are fewer than two values.
pub(super) fn spark(values: &[f64], label: &str) -> String {
    let (width, height) = SPARK;
    let top = values.iter().copied().fold(0.0, f64::max);
    if values.len() < 2 || top <= 0.0 {
        return String::new();
    }
    let points = values.iter().enumerate().map(|(at, value)| {
        let x = 2.0 + at as f64 / (values.len() - 1) as f64 * (width - 5.0);
        (x, height - 3.0 - value / top * (height - 6.0))
    });
    let points: Vec<(f64, f64)> = points.collect();
    let mut line = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let _ = write!(line, "{}{x:.1} {y:.1}", if at == 0 { "M" } else { "L" });
    }
    let (last_x, last_y) = points[points.len() - 1];
    format!(
        "<svg class=\"spark\" viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\">\
         <path class=\"area\" d=\"{line}L{last_x:.1} {height}L2 {height}Z\"/><path d=\"{line}\"/>\
         <circle cx=\"{last_x:.1}\" cy=\"{last_y:.1}\" r=\"2.2\"/></svg>",
        escape(label)
    )
}

/// A bullet chart: what is used, and where requests and limits are.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Bullet {
    pub(super) used: Option<f64>,
    pub(super) request: Option<f64>,
    pub(super) limit: Option<f64>,
    pub(super) recommended: Option<f64>,
}

impl Bullet {
    /// Draws the chart. It is hidden from screen readers, since a text beside it says the same.
    pub(super) fn draw(&self) -> String {
        let (width, height) = BULLET;
        let marks = [("request", self.request), ("limit", self.limit), ("recommended", self.recommended)];
        let top = marks.iter().filter_map(|(_, value)| *value).chain(self.used).fold(0.0, f64::max);
        let Some(used) = self.used.filter(|_| top > 0.0) else { return String::new() };
        let place = |value: f64| value / top * (width - 4.0) + 2.0;
        let mut svg = format!(
            "<svg class=\"bullet\" viewBox=\"0 0 {width} {height}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"track\" y=\"3\" width=\"{width}\" height=\"6\" rx=\"3\"/>\
             <rect class=\"used\" y=\"3\" width=\"{:.1}\" height=\"6\" rx=\"3\"/>",
            place(used).max(3.0)
        );
        for (class, value) in marks {
            if let Some(value) = value {
                let x = place(value);
                let _ = write!(svg, "<path class=\"{class}\" d=\"M{x:.1} 0V{height}\"/>");
            }
        }
        svg + "</svg>"
    }
}

/// Draws a part of a whole, beside a text that says the same.
pub(super) fn share(part: f64) -> String {
    let width = (part * 100.0).clamp(0.0, 100.0);
    format!(
        "<svg class=\"share\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"track\" width=\"100\" height=\"10\" rx=\"2\"/><rect class=\"part\" width=\"{width:.1}\" height=\"10\" rx=\"2\"/></svg>"
    )
}

/// The part of a whole from one share of it to another.
pub(super) fn span(from: f64, to: f64) -> String {
    let from = (from * 100.0).clamp(0.0, 99.0);
    let width = (to * 100.0 - from).clamp(1.0, 100.0 - from);
    format!(
        "<svg class=\"share\" viewBox=\"0 0 100 10\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
         <rect class=\"track\" width=\"100\" height=\"10\" rx=\"2\"/><rect class=\"part\" x=\"{from:.1}\" width=\"{width:.1}\" height=\"10\" rx=\"2\"/></svg>"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_drawn_without_style_or_script() {
        let bullet = Bullet { used: Some(1.0), request: Some(2.0), limit: Some(4.0), recommended: None };
        let drawn = [span(0.5, 0.75), spark(&[1.0, 3.0, 2.0], "<b \"x\">"), bullet.draw(), share(0.5)];
        for svg in &drawn {
            assert!(!svg.contains("style=") && !svg.contains("<b"), "{svg}");
        }
        assert!(
            drawn[1].contains("M2.0 17.7L47.5 3.0L93.0 10.3") && drawn[1].contains("&lt;b &quot;x&quot;"),
            "{}",
            drawn[1]
        );
        assert!(
            drawn[2].contains("class=\"used\" y=\"3\" width=\"41.0\"") && drawn[2].contains("M80.0 0"),
            "{}",
            drawn[2]
        );
        assert!(drawn[0].contains("x=\"50.0\" width=\"25.0\""), "{}", drawn[0]);
        assert!(drawn[3].contains("width=\"50.0\""));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert_eq!(spark(&[1.0], ""), "");
        assert_eq!(spark(&[0.0, 0.0], ""), "");
        assert_eq!(Bullet::default().draw(), "");
        assert_eq!(Bullet { request: Some(1.0), ..Bullet::default() }.draw(), "");
    }
}
