//! A plot: lines over an axis as SVG, the names around them as text that the page lays out, and
//! what a reader's pointer shows as data for the script.
//!
//! The SVG is stretched to whatever room there is, so lines keep their width by themselves and no
//! text is inside: the same plot fits a screen and a phone. Without the script all is there but
//! the read-out.

use std::fmt::Write as _;

use super::axis::{Axis, Tick};
use super::escape;

/// The SVG's own units from end to end.
const SIDE: f64 = 1000.0;

/// A line with this few points shows them as dots, too.
const DOTS_COUNT_MAX: usize = 12;

/// What the lines of a plot stand for: a name in the legend, with a colour.
pub struct Key {
    pub label: String,
    pub ink: Ink,
}

/// How the lines of a key are drawn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ink {
    /// One of the page's colours, by its index; they repeat with dashes.
    Color(usize),
    /// Grey and dashed: what is for comparison only.
    Aside,
    /// The colour of warnings, as marks at the foot.
    Warning,
}

/// How much a line stands out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    Bold,
    /// One of several runs, behind their sum; the read-out leaves it out.
    Faint,
}

/// One line over the grid of its group.
pub struct Line {
    /// Index into the plot's keys.
    pub key: usize,
    pub weight: Weight,
    /// A value for each value of the grid; a gap where there is none.
    pub y: Vec<Option<f64>>,
    /// Writes a value of the line.
    pub name_y: fn(f64) -> String,
}

/// Lines over one grid, which is in ascending order.
pub struct Group {
    pub grid: Vec<f64>,
    pub lines: Vec<Line>,
}

/// One way to look at a group: its axis upwards, named on the button that chooses it.
pub struct View {
    pub name: &'static str,
    pub group: usize,
    pub y: Axis,
}

/// A plot with one view or several of them.
pub struct Plot {
    pub title: String,
    /// What is shown, in a sentence.
    pub caption: String,
    pub x: Axis,
    /// What the axis below shows.
    pub x_title: &'static str,
    /// Writes a value of the grids.
    pub name_x: fn(f64) -> String,
    pub keys: Vec<Key>,
    pub groups: Vec<Group>,
    pub views: Vec<View>,
}

impl Plot {
    /// The plot as a `figure`, or a sentence in its place when there is nothing to draw.
    pub fn html(&self) -> String {
        let title = escape(&self.title);
        let caption = escape(&self.caption);
        let mut html = format!(
            "<figure class=\"plot\"><figcaption><h3>{title}</h3><p>{caption}</p></figcaption>\n"
        );
        if self.is_empty() {
            html += "<p class=\"empty\">No values: the run ended before there were any.</p>";
            return html + "</figure>\n";
        }
        html += &self.controls();
        for (index, view) in self.views.iter().enumerate() {
            html += &self.frame(view, index == 0);
        }
        let data = self.data().to_string().replace('<', "\\u003c");
        html + &format!("<script type=\"application/json\">{data}</script>\n</figure>\n")
    }

    fn is_empty(&self) -> bool {
        let has_values = |line: &Line| line.y.iter().any(Option::is_some);
        !self.groups.iter().any(|group| group.lines.iter().any(has_values))
    }

    /// The legend, and a button for each view where there are several.
    fn controls(&self) -> String {
        let mut html = "<div class=\"controls\"><div class=\"legend\">".to_owned();
        for (index, key) in self.keys.iter().enumerate() {
            let (ink, label) = (ink_class(key.ink), escape(&key.label));
            write!(
                html,
                "<button type=\"button\" class=\"key {ink}\" data-key=\"{index}\" \
                 aria-pressed=\"true\"><i></i>{label}</button>"
            )
            .expect("into memory");
        }
        html += "</div>";
        if self.views.len() > 1 {
            html += "<div class=\"views\" hidden>";
            for (index, view) in self.views.iter().enumerate() {
                let (is_pressed, name) = (index == 0, escape(view.name));
                write!(
                    html,
                    "<button type=\"button\" data-view=\"{index}\" \
                     aria-pressed=\"{is_pressed}\">{name}</button>"
                )
                .expect("into memory");
            }
            html += "</div>";
        }
        html + "</div>\n"
    }

    fn frame(&self, view: &View, is_shown: bool) -> String {
        let hidden = if is_shown { "" } else { " hidden" };
        let label = escape(&format!("{}, {}", self.title, view.name));
        let group = view.group;
        let mut html =
            format!("<div class=\"frame\" data-group=\"{group}\"{hidden}><div class=\"y\">");
        for tick in view.y.ticks.iter().filter(|tick| !tick.label.is_empty()) {
            let (bottom, text) = (percent(tick.at), escape(&tick.label));
            write!(html, "<span style=\"bottom:{bottom}\">{text}</span>").expect("into memory");
        }
        write!(
            html,
            "</div><div class=\"canvas\" tabindex=\"0\"><svg viewBox=\"0 0 {SIDE} {SIDE}\" \
             preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{label}\">"
        )
        .expect("into memory");
        html += &self.grid_path(view);
        html += &self.line_paths(view);
        html +=
            "</svg><div class=\"cursor\" hidden></div><div class=\"readout\" hidden></div></div>";
        html += "<div class=\"x\">";
        for tick in &self.x.ticks {
            html += &x_label(tick);
        }
        html + &format!("</div><div class=\"x-title\">{}</div></div>\n", self.x_title)
    }

    fn grid_path(&self, view: &View) -> String {
        let mut path = String::new();
        for tick in &self.x.ticks {
            write!(path, "M{} 0V{SIDE}", coordinate(tick.at)).expect("into memory");
        }
        for tick in &view.y.ticks {
            write!(path, "M0 {}H{SIDE}", coordinate(1.0 - tick.at)).expect("into memory");
        }
        format!("<path class=\"grid\" d=\"{path}\"/>")
    }

    /// The faint lines first, so that they lie behind.
    fn line_paths(&self, view: &View) -> String {
        let group = &self.groups[view.group];
        let mut html = String::new();
        for weight in [Weight::Faint, Weight::Bold] {
            for line in group.lines.iter().filter(|line| line.weight == weight) {
                let ink = self.keys[line.key].ink;
                let path = match ink {
                    Ink::Warning => self.marks(group, line),
                    _ => self.line_path(group, line, &view.y),
                };
                let class = match weight {
                    Weight::Bold => ink_class(ink),
                    Weight::Faint => format!("{} faint", ink_class(ink)),
                };
                let key = line.key;
                write!(html, "<path class=\"line {class}\" data-key=\"{key}\" d=\"{path}\"/>")
                    .expect("into memory");
                let points = line.y.iter().flatten().count();
                if weight == Weight::Bold && points <= DOTS_COUNT_MAX && ink != Ink::Warning {
                    let dots = self.dots(group, line, &view.y);
                    write!(html, "<path class=\"dots {class}\" data-key=\"{key}\" d=\"{dots}\"/>")
                        .expect("into memory");
                }
            }
        }
        html
    }

    fn line_path(&self, group: &Group, line: &Line, y_axis: &Axis) -> String {
        let mut path = String::new();
        let mut verb = 'M';
        for (x, y) in group.grid.iter().zip(&line.y) {
            let Some(y) = y else {
                verb = 'M';
                continue;
            };
            let (x, y) = (coordinate(self.x.position(*x)), coordinate(1.0 - y_axis.position(*y)));
            write!(path, "{verb}{x} {y}").expect("into memory");
            verb = 'L';
        }
        path
    }

    fn dots(&self, group: &Group, line: &Line, y_axis: &Axis) -> String {
        let mut path = String::new();
        for (x, y) in group.grid.iter().zip(&line.y) {
            if let Some(y) = y {
                let at = (self.x.position(*x), 1.0 - y_axis.position(*y));
                // No length: its round ends make a dot, which the stretched SVG leaves round.
                write!(path, "M{} {}h0", coordinate(at.0), coordinate(at.1)).expect("into memory");
            }
        }
        path
    }

    /// Short strokes at the foot of the plot where there is a value.
    fn marks(&self, group: &Group, line: &Line) -> String {
        let places = group.grid.iter().zip(&line.y).filter(|(_, y)| y.is_some());
        let stroke = |x: &f64| format!("M{} {SIDE}v-45", coordinate(self.x.position(*x)));
        places.map(|(x, _)| stroke(x)).collect()
    }

    /// What the read-out shows: for each group the places on the grid, and each bold line's values
    /// there, as text.
    fn data(&self) -> serde_json::Value {
        let text = |line: &Line, y: &Option<f64>| y.map_or_else(String::new, line.name_y);
        let groups = self.groups.iter().map(|group| {
            let at: Vec<f64> = group.grid.iter().map(|x| round(self.x.position(*x))).collect();
            let names: Vec<String> = group.grid.iter().map(|x| (self.name_x)(*x)).collect();
            let bold = group.lines.iter().filter(|line| line.weight == Weight::Bold);
            let lines: Vec<serde_json::Value> = bold
                .map(|line| {
                    let texts: Vec<String> = line.y.iter().map(|y| text(line, y)).collect();
                    serde_json::json!({"key": line.key, "texts": texts})
                })
                .collect();
            serde_json::json!({"at": at, "names": names, "lines": lines})
        });
        serde_json::Value::Array(groups.collect())
    }
}

fn x_label(tick: &Tick) -> String {
    let mut class = if tick.is_wide_only { "wide" } else { "" }.to_owned();
    if tick.at < 0.02 {
        class += " first";
    } else if tick.at > 0.96 {
        class += " last";
    }
    let (left, text) = (percent(tick.at), escape(&tick.label));
    format!("<span class=\"{}\" style=\"left:{left}\">{text}</span>", class.trim())
}

fn ink_class(ink: Ink) -> String {
    match ink {
        Ink::Color(index) if index < super::COLORS_COUNT => format!("c{index}"),
        Ink::Color(index) => format!("c{} dashed", index % super::COLORS_COUNT),
        Ink::Aside => "aside".to_owned(),
        Ink::Warning => "warning".to_owned(),
    }
}

/// A position in the SVG's own units, to a tenth.
fn coordinate(position: f64) -> f64 {
    (position * SIDE * 10.0).round() / 10.0
}

fn percent(position: f64) -> String {
    format!("{}%", (position * 10_000.0).round() / 100.0)
}

fn round(position: f64) -> f64 {
    (position * 10_000.0).round() / 10_000.0
}
