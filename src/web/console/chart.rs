//! Charts of traffic, drawn on the server: bars in an SVG that is stretched to its place, and labels beside it as text.

use time::{OffsetDateTime, Weekday};

use crate::admin::overview::{TrafficBucket, TrafficRange};
use crate::domain::words::grouped;

/// The size of the drawing, in units of its own.
const WIDTH: f64 = 1_000.0;
const HEIGHT: f64 = 100.0;

/// How many hours a bar of the week is.
const HOURS_OF_WEEK_BAR: u8 = 6;

/// A chart of what came and what became of it.
pub struct Chart {
    pub title: &'static str,
    pub bars: Vec<Bar>,
    /// Labels of the vertical axis, from the top.
    pub levels: [String; 3],
    /// Labels of the horizontal axis, from the left.
    pub times: Vec<Tick>,
    /// The same as a table, without empty parts; newest first.
    pub rows: Vec<ChartRow>,
    pub is_empty: bool,
    /// Whether bars are wide enough on a phone to begin and end at whole pixels.
    pub is_crisp: bool,
}

/// A round time on the horizontal axis.
pub struct Tick {
    /// How far from the left, as a length of SVG: `12.50%`.
    pub x: String,
    /// Which end of the text stands there: `start`, `middle` or `end`, so that none is cut off.
    pub anchor: &'static str,
    pub text: String,
    /// Whether its text is left out where there is little room.
    pub is_minor: bool,
}

/// A part of a bar.
pub struct Bar {
    pub class: &'static str,
    pub x: String,
    pub y: String,
    pub width: String,
    pub height: String,
}

/// A line of the table.
pub struct ChartRow {
    pub time: String,
    pub accepted: String,
    pub delivered: String,
    pub gave_up: String,
}

impl Chart {
    /// The chart of a range.
    pub fn new(range: TrafficRange, buckets: &[TrafficBucket], are_calls: bool) -> Self {
        // An hour of a week would be a line of less than a pixel.
        let joined;
        let buckets = if range == TrafficRange::Week {
            joined = join(buckets, HOURS_OF_WEEK_BAR);
            &joined
        } else {
            buckets
        };
        let top = buckets.iter().map(|bucket| bucket.accepted.max(bucket.delivered + bucket.gave_up)).max();
        let top = top.unwrap_or_default();
        let limit = round_up(top);
        let n = u32::try_from(buckets.len().max(1)).unwrap_or(u32::MAX);
        let slot = WIDTH / f64::from(n);
        let mut bars = Vec::new();
        for (place, bucket) in (0_u32..).zip(buckets) {
            let left = f64::from(place) * slot;
            let mut bar = |class, offset: f64, from: i64, n: i64| {
                if n > 0 {
                    let [bottom, height] = [from, n].map(|n| share(n, limit) * HEIGHT);
                    // What is there is seen, however little it is.
                    let height = height.max(0.8);
                    bars.push(Bar {
                        class,
                        x: number(left + slot * offset),
                        y: number(HEIGHT - bottom - height),
                        width: number(slot * 0.4),
                        height: number(height),
                    });
                }
            };
            bar("accent", 0.08, 0, bucket.accepted);
            bar("good", 0.52, 0, bucket.delivered);
            bar("bad", 0.52, bucket.delivered, bucket.gave_up);
        }
        let is_there = |bucket: &&TrafficBucket| bucket.accepted + bucket.delivered + bucket.gave_up > 0;
        let rows = buckets.iter().rev().filter(is_there).map(|bucket| ChartRow {
            time: label(range, bucket.at, true),
            accepted: grouped(bucket.accepted),
            delivered: grouped(bucket.delivered),
            gave_up: grouped(bucket.gave_up),
        });
        Self {
            title: match (range, are_calls) {
                (TrafficRange::Hour, false) => "Events a minute, in the last hour",
                (TrafficRange::Day, false) => "Events an hour, in the last 24 hours",
                (TrafficRange::Week, false) => "Events in 6 hours, in the last 7 days",
                (TrafficRange::Month, false) => "Events a day, in the last 30 days",
                (TrafficRange::Hour, true) => "Calls a minute, in the last hour",
                (TrafficRange::Day, true) => "Calls an hour, in the last 24 hours",
                (TrafficRange::Week, true) => "Calls in 6 hours, in the last 7 days",
                (TrafficRange::Month, true) => "Calls a day, in the last 30 days",
            },
            levels: [limit, limit / 2, 0].map(grouped),
            times: (0_u32..)
                .zip(buckets)
                .filter(|(_, bucket)| is_round(range, bucket.at))
                .map(|(place, bucket)| tick(range, bucket.at, f64::from(place) / f64::from(n)))
                .collect(),
            rows: rows.collect(),
            is_empty: top == 0,
            is_crisp: buckets.len() <= 30,
            bars,
        }
    }
}

/// Buckets of so many hours, as days are divided by them; the first and the last may have fewer.
fn join(buckets: &[TrafficBucket], hours: u8) -> Vec<TrafficBucket> {
    let parts = buckets.chunk_by(|_, next| !next.at.hour().is_multiple_of(hours));
    let sum = |mut sum: TrafficBucket, bucket: &TrafficBucket| {
        sum.accepted += bucket.accepted;
        sum.delivered += bucket.delivered;
        sum.gave_up += bucket.gave_up;
        sum
    };
    parts.filter_map(|part| part.split_first().map(|(first, more)| more.iter().fold(first.clone(), sum))).collect()
}

/// The next number that is good to read: 2, 4, 6, 8, 10, 20, 40, …
fn round_up(n: i64) -> i64 {
    let mut step = 1;
    loop {
        for factor in [2, 4, 6, 8, 10] {
            if n <= step * factor {
                return step * factor;
            }
        }
        step *= 10;
    }
}

/// Whether the axis names this time: every quarter of an hour, 6 hours, day, or Monday.
fn is_round(range: TrafficRange, at: OffsetDateTime) -> bool {
    match range {
        TrafficRange::Hour => at.minute().is_multiple_of(15),
        TrafficRange::Day => at.hour().is_multiple_of(6),
        TrafficRange::Week => at.hour() == 0,
        TrafficRange::Month => at.weekday() == Weekday::Monday,
    }
}

fn tick(range: TrafficRange, at: OffsetDateTime, from_left: f64) -> Tick {
    let anchor = if from_left < 0.05 {
        "start"
    } else if from_left > 0.95 {
        "end"
    } else {
        "middle"
    };
    let is_minor = range == TrafficRange::Week && at.to_julian_day() % 2 != 0;
    Tick { x: format!("{:.2}%", from_left * 100.0), anchor, text: label(range, at, false), is_minor }
}

fn share(n: i64, of: i64) -> f64 {
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "a length on a screen")]
    let share = n as f64 / of.max(1) as f64;
    share.clamp(0.0, 1.0)
}

fn number(n: f64) -> String {
    format!("{n:.2}")
}

fn label(range: TrafficRange, at: OffsetDateTime, is_whole: bool) -> String {
    let month = at.month().to_string();
    let day = format!("{} {}", at.day(), &month[..3]);
    let clock = format!("{:02}:{:02}", at.hour(), at.minute());
    match (range, is_whole) {
        (TrafficRange::Month, _) | (TrafficRange::Week, false) => day,
        (TrafficRange::Hour | TrafficRange::Day, false) => clock,
        (_, true) => format!("{day}, {clock}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_ends_at_a_round_number_above_all_bars() {
        for (n, expected) in
            [(0, 2), (2, 2), (3, 4), (5, 6), (7, 8), (9, 10), (11, 20), (99, 100), (101, 200), (4_001, 6_000)]
        {
            assert_eq!(round_up(n), expected);
        }
    }
}
