//! How full the window is: the server's own count of the last request, and our count of what was added since.
//!
//! Nothing here counts: a caller that has not needed the tables yet says only how many bytes a request has.

use super::{PER_MESSAGE, Tokens};

/// How many tokens one of ours is taken to be with a vocabulary that is not known, until the server has said.
const UNKNOWN_RATIO: f64 = 1.25;
/// What an old ratio weighs against a new one.
const INERTIA: f64 = 0.7;
/// A ratio is learnt from growth of so many tokens at least: less is marks and rounding.
const LEARN_FROM: u64 = 64;
/// Ratios that vocabularies have; what is beyond says more about the server's counting.
const RATIOS: (f64, f64) = (0.5, 5.0);
/// A report below this share of the estimate is not believed.
const FALLS_SHORT: f64 = 0.7;
/// The same while nothing has been reported that the estimate could rest on.
const FALLS_SHORT_AT_FIRST: f64 = 0.35;
/// A report above so many times the estimate is not believed, and the same while nothing was reported.
const BEYOND: (f64, f64) = (2.0, 4.0);
/// What a report may be above the estimate in any case: templates, roles, hidden instructions.
const BEYOND_ANYWAY: f64 = 4096.0;
/// Growth below this share of the estimate moves nothing: it may be the beginning of a cut conversation.
const HARDLY_GROWN: f64 = 0.3;
/// A conversation smaller than this is not said to be cut.
const WORTH_TELLING: u64 = 2_000;
/// So many reports in a row that go on from doubted ones are believed after all.
const BORNE_OUT: u32 = 2;
/// Bytes of a token where nothing was counted: only to know nonsense from sense.
const BYTES_PER_TOKEN: u64 = 3;

/// A request's size as we know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Of all texts, schemas and arguments in it.
    pub bytes: u64,
    /// Our count of them, marks around messages included; None where it was not needed.
    pub tokens: Option<u64>,
}

impl Size {
    /// A guess where nothing was counted.
    fn about(self) -> u64 {
        self.tokens.unwrap_or(self.bytes / BYTES_PER_TOKEN)
    }
}

/// A server says far fewer tokens than it was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortfall {
    /// What it says.
    pub reported: u64,
    /// What it must have been about.
    pub estimate: u64,
}

impl Shortfall {
    /// What a person should know of it.
    pub fn words(self) -> String {
        let Self { reported, estimate } = self;
        format!(
            "the model's server counts {reported} tokens where about {estimate} were sent: it may leave out the beginning of \
             the conversation without saying so; if its window is smaller than it seems, say so with `--window`"
        )
    }
}

/// A request and what the server said it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Report {
    size: Size,
    tokens: u64,
}

/// Estimates how many tokens a request is, by what the server said of those before it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gauge {
    /// Tokens of the server's for one of ours.
    ratio: f64,
    /// The last report that was believed.
    anchor: Option<Report>,
    /// The last one that was not, if none was believed since.
    doubted: Option<Report>,
    /// How many reports in a row bore out the doubted one before them.
    borne_out: u32,
    /// Whether the conversation was made smaller since the last report.
    rewritten: bool,
    told: bool,
}

impl Gauge {
    /// Of a model that nothing was reported of.
    pub fn new(tokens: Tokens) -> Self {
        let ratio = if tokens.is_own() { 1.0 } else { UNKNOWN_RATIO };
        Self { ratio, anchor: None, doubted: None, borne_out: 0, rewritten: false, told: false }
    }

    /// What a request of so many bytes and messages can't exceed, as long as the server counts bytes or more; free.
    pub fn at_most(&self, bytes: u64, messages: u64) -> u64 {
        let all = Tokens::at_most(bytes, messages);
        match self.anchored() {
            Some(Report { size, tokens }) => {
                let added = bytes.saturating_sub(size.bytes);
                all.min(tokens.saturating_add(added).saturating_add(messages.min(added).saturating_mul(PER_MESSAGE)))
            }
            None => all,
        }
    }

    /// What a request that we count and measure so is for the server.
    pub fn estimate(&self, bytes: u64, tokens: u64) -> u64 {
        let Some(anchor) = self.anchor else { return whole(real(tokens) * self.ratio) };
        if self.rewritten {
            let overall = real(anchor.tokens) / real(anchor.size.about().max(1));
            return whole(real(tokens) * self.ratio.max(overall.clamp(RATIOS.0, RATIOS.1)));
        }
        let added = match anchor.size.tokens {
            Some(then) => real(tokens) - real(then),
            // As dense as the rest.
            None => real(tokens) * (real(bytes) - real(anchor.size.bytes)) / real(bytes.max(1)),
        };
        whole(real(anchor.tokens) + added * self.ratio)
    }

    /// Takes in how many tokens the server says that a request was. What can't be is not believed, unless those after
    /// it bear it out. Says once if the server seems to leave something out.
    pub fn report(&mut self, size: Size, reported: u64) -> Option<Shortfall> {
        let estimate = match size.tokens {
            Some(tokens) => self.estimate(size.bytes, tokens),
            None => self.guess(size),
        };
        let report = Report { size, tokens: reported };
        let falls_short = self.falls_short(report, estimate);
        let hardly_grew = self.anchored().is_some_and(|anchor| hardly_grew(anchor, report));
        let is_nonsense = reported == 0 || falls_short || self.is_beyond(report, estimate);
        let goes_on = is_nonsense && self.doubted.is_some_and(|doubted| goes_on(doubted, report));
        self.borne_out = if goes_on { self.borne_out + 1 } else { 0 };
        let is_borne_out = self.borne_out >= BORNE_OUT;
        if is_nonsense && !is_borne_out {
            self.doubted = Some(report);
        } else if !hardly_grew || is_borne_out {
            if !is_borne_out {
                self.learn(report);
            }
            (self.anchor, self.doubted, self.rewritten) = (Some(report), None, false);
        }
        let is_news = falls_short && !is_borne_out && size.tokens.is_some() && estimate >= WORTH_TELLING;
        (is_news && reported > 0 && !std::mem::replace(&mut self.told, true))
            .then_some(Shortfall { reported, estimate })
    }

    /// The conversation was made smaller: the next report says nothing about growth.
    pub fn rewritten(&mut self) {
        (self.rewritten, self.doubted, self.borne_out) = (true, None, 0);
    }

    /// Another model answers from here on: what was learnt of the one before is void.
    pub fn restart(&mut self, tokens: Tokens) {
        *self = Self::new(tokens);
    }

    fn anchored(&self) -> Option<Report> {
        self.anchor.filter(|_| !self.rewritten)
    }

    fn guess(&self, size: Size) -> u64 {
        match self.anchored() {
            Some(anchor) => {
                anchor.tokens.saturating_add(size.bytes.saturating_sub(anchor.size.bytes) / BYTES_PER_TOKEN)
            }
            None => size.about(),
        }
    }

    fn falls_short(&self, report: Report, estimate: u64) -> bool {
        let share = if self.anchored().is_some() { FALLS_SHORT } else { FALLS_SHORT_AT_FIRST };
        real(report.tokens) < real(estimate) * share
    }

    fn is_beyond(&self, report: Report, estimate: u64) -> bool {
        let times = if self.anchored().is_some() { BEYOND.0 } else { BEYOND.1 };
        real(report.tokens) > real(estimate) * times + BEYOND_ANYWAY
    }

    /// Learns the ratio where the conversation only grew.
    fn learn(&mut self, report: Report) {
        let before = match self.anchored() {
            Some(anchor) => anchor,
            None if self.rewritten => return,
            None => Report { size: Size { bytes: 0, tokens: Some(0) }, tokens: 0 },
        };
        let Some(ratio) = growth(before, report) else { return };
        self.ratio = self.ratio * INERTIA + ratio.clamp(RATIOS.0, RATIOS.1) * (1.0 - INERTIA);
    }
}

/// The server's growth for each of our tokens; None where we have not counted, or where too little was added.
fn growth(before: Report, after: Report) -> Option<f64> {
    let added = after.size.tokens?.checked_sub(before.size.tokens?).filter(|added| *added >= LEARN_FROM)?;
    Some((real(after.tokens) - real(before.tokens)) / real(added))
}

fn hardly_grew(before: Report, after: Report) -> bool {
    let added = after.size.about().saturating_sub(before.size.about());
    added >= LEARN_FROM && real(after.tokens) - real(before.tokens) < real(added) * HARDLY_GROWN
}

/// Whether two reports that are unlikely alone are likely together.
fn goes_on(before: Report, after: Report) -> bool {
    growth(before, after).is_some_and(|ratio| (RATIOS.0..=RATIOS.1).contains(&ratio))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate")]
fn real(tokens: u64) -> f64 {
    tokens as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped by the cast itself")]
fn whole(tokens: f64) -> u64 {
    tokens.ceil() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gauge(model: &str) -> Gauge {
        Gauge::new(Tokens::of_model(model))
    }

    fn counted(tokens: u64) -> Size {
        Size { bytes: tokens * 4, tokens: Some(tokens) }
    }

    fn estimate(gauge: &Gauge, tokens: u64) -> u64 {
        gauge.estimate(tokens * 4, tokens)
    }

    #[test]
    fn an_estimate_is_the_last_report_and_what_came_since() {
        let mut gauge = gauge("gpt-5");
        assert_eq!(estimate(&gauge, 1_000), 1_000);
        assert_eq!(gauge.report(counted(1_000), 1_400), None);
        let ratio = 0.7 + 0.3 * 1.4;
        assert_eq!(estimate(&gauge, 1_000), 1_400, "what the server adds is in its report");
        assert_eq!(estimate(&gauge, 1_500), whole(1_400.0 + 500.0 * ratio));
        assert_eq!(estimate(&gauge, 900), whole(1_400.0 - 100.0 * ratio), "the state block has become shorter");
    }

    #[test]
    fn an_unknown_vocabulary_is_learnt_from_growth() {
        let mut gauge = gauge("a-model-of-ours");
        assert_eq!(estimate(&gauge, 1_000), 1_250);
        let mut worst: f64 = 0.0;
        for turn in 1..=30_u64 {
            let ours = 1_000 + turn * 400;
            let theirs = 3_100 + turn * 1_240;
            let error = (real(estimate(&gauge, ours)) - real(theirs)) / real(theirs);
            if turn > 5 {
                worst = worst.max(error.abs());
            }
            assert_eq!(gauge.report(counted(ours), theirs), None);
        }
        assert!((gauge.ratio - 3.1).abs() < 0.02, "{}", gauge.ratio);
        assert!(worst < 0.05, "{worst}");
    }

    #[test]
    fn wrong_numbers_do_no_harm() {
        let mut gauge = gauge("gpt-5");
        gauge.report(counted(10_000), 10_500);
        let before = gauge.clone();
        for (turn, wrong) in [0, u64::MAX, 1, 9_000_000, u64::MAX, u64::MAX, 0, 3].into_iter().enumerate() {
            gauge.report(counted(10_100 + turn as u64 * 200), wrong);
            assert_eq!((gauge.anchor, gauge.ratio), (before.anchor, before.ratio), "{wrong}");
        }
        assert_eq!(estimate(&gauge, 12_000), estimate(&before, 12_000));
        gauge.report(counted(12_000), 12_500);
        assert_eq!(estimate(&gauge, 12_000), 12_500, "and what is right is believed again");
        let mut none = Gauge::new(Tokens::of_model("x"));
        none.report(Size { bytes: u64::MAX, tokens: Some(u64::MAX) }, u64::MAX);
        assert_eq!(none.estimate(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(none.at_most(u64::MAX, u64::MAX), u64::MAX);
    }

    #[test]
    fn a_server_that_counts_otherwise_is_believed_when_it_goes_on_so() {
        let mut gauge = gauge("gpt-5");
        gauge.report(counted(10_000), 10_000);
        let told = gauge.report(counted(10_500), 6_000);
        assert_eq!(told, Some(Shortfall { reported: 6_000, estimate: 10_500 }));
        assert_eq!(gauge.report(counted(11_000), 6_500), None);
        assert!(estimate(&gauge, 11_000) > 10_500, "twice may be chance");
        assert_eq!(gauge.report(counted(11_400), 6_900), None);
        assert_eq!(estimate(&gauge, 11_400), 6_900);
    }

    #[test]
    fn a_server_that_cuts_silently_is_noticed_once_and_not_believed() {
        let mut gauge = gauge("gpt-5");
        let mut told = Vec::new();
        for turn in 0..60_u64 {
            let sent = 2_000 + turn * 300;
            // It keeps the newest messages that fit.
            let kept = if sent <= 8_192 { sent } else { 8_192 - turn * 37 % 300 };
            told.extend(gauge.report(counted(sent), kept));
        }
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].reported <= 8_192 && told[0].estimate > 8_192, "{told:?}");
        assert!(estimate(&gauge, 20_000) > 15_000, "{}", estimate(&gauge, 20_000));
        assert!(told[0].words().contains("--window"));
    }

    #[test]
    fn a_reduction_is_no_lesson() {
        let mut gauge = gauge("gpt-5");
        gauge.report(counted(50_000), 60_000);
        let ratio = gauge.ratio;
        gauge.rewritten();
        assert_eq!(estimate(&gauge, 10_000), 12_000, "as dense as the whole was");
        assert_eq!(gauge.at_most(40_000, 10), 40_080);
        assert_eq!(gauge.report(counted(10_000), 10_900), None);
        assert_eq!(gauge.ratio, ratio);
        assert_eq!(estimate(&gauge, 10_000), 10_900);
    }

    #[test]
    fn a_bound_is_had_without_counting() {
        let mut gauge = gauge("qwen3");
        let bytes = |bytes| Size { bytes, tokens: None };
        assert_eq!(gauge.at_most(40_000, 10), 40_080);
        gauge.report(bytes(40_000), 9_000);
        assert_eq!(gauge.at_most(41_000, 12), 9_000 + 1_000 + 12 * PER_MESSAGE);
        assert!(gauge.estimate(44_000, 12_000) >= 9_000 + 12_000 / 11);
        assert_eq!(gauge.report(bytes(48_000), 9_010), None);
        assert!(gauge.at_most(48_000, 12) > 17_000, "what hardly grew is no anchor: it must be counted");
    }
}
