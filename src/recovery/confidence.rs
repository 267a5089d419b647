//! How sure it is that a reaction helps, from what is on record: each signal has a level and a reason, and the worst decides.
//! A share is only named where it was counted.

use crate::domain::{Confidence, Effect, Level, Signal};

/// Of so many times a reaction must be known to be called proven.
const PROVEN_AFTER: u32 = 5;
/// And so many of a hundred must have worked.
const PROVEN_PERCENT: u32 = 80;

/// What is known of a failure and of what is to be done about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Grounds {
    /// Whether something outside the model's reach proves the goal in the end.
    pub has_checks: bool,
    /// How often the same failure came before in the run.
    pub repeats: u32,
    /// How many kinds of reactions have failed to help.
    pub ways_failed: usize,
    /// How often this reaction has worked for this failure, and how often it was seen to end one way or the other; earlier
    /// runs included.
    pub worked: (u32, u32),
    /// How far the reaction reaches.
    pub effect: Effect,
    /// Whether the failure came from another place this time.
    pub moved: bool,
    /// What is left of the limit that is nearest, from 0 to 1.
    pub budget_left: f64,
}

/// The level of what is known, and its reasons.
pub fn confidence(grounds: &Grounds) -> Confidence {
    let signals = vec![
        signal("verification", verification(grounds)),
        signal("repeats", repeats(grounds)),
        signal("novelty", novelty(grounds)),
        signal("effect", effect(grounds)),
        signal("progress", progress(grounds)),
        signal("budget", budget(grounds)),
    ];
    let level = signals.iter().map(|signal| signal.level).min().unwrap_or(Level::Low);
    Confidence { level, signals }
}

fn signal(name: &str, (level, why): (Level, String)) -> Signal {
    Signal { name: name.to_owned(), level, why }
}

fn stays_in_the_box(grounds: &Grounds) -> bool {
    grounds.effect <= Effect::Workspace
}

fn verification(grounds: &Grounds) -> (Level, String) {
    match grounds.has_checks {
        true => (Level::High, "checks outside the model's reach decide in the end".to_owned()),
        false if stays_in_the_box(grounds) => (Level::Medium, "no check was given".to_owned()),
        false => (Level::Low, "no check was given, and it reaches beyond the box".to_owned()),
    }
}

fn repeats(grounds: &Grounds) -> (Level, String) {
    let times = |times: u32| if times == 1 { "once".to_owned() } else { format!("{times} times") };
    match (grounds.repeats, grounds.ways_failed) {
        (before, 2..) => (Level::Low, format!("two ways have not helped; it came {} before", times(before))),
        (0, _) => (Level::High, "it came for the first time".to_owned()),
        (1, _) => (Level::High, "it came once before".to_owned()),
        (2, _) => (Level::Medium, "it came 2 times before".to_owned()),
        (before, _) => (Level::Low, format!("it came {} before", times(before))),
    }
}

fn novelty(grounds: &Grounds) -> (Level, String) {
    let (worked, of) = grounds.worked;
    match of {
        0 if stays_in_the_box(grounds) => (Level::Medium, "never tried for this before".to_owned()),
        0 => (Level::Low, "never tried for this before, and it reaches beyond the box".to_owned()),
        1..PROVEN_AFTER => (Level::Medium, format!("worked {worked} of {of} times")),
        of if worked.saturating_mul(100) >= of.saturating_mul(PROVEN_PERCENT) => {
            (Level::High, format!("worked {worked} of {of} times"))
        }
        of => (Level::Medium, format!("worked {worked} of {of} times")),
    }
}

fn effect(grounds: &Grounds) -> (Level, String) {
    match grounds.effect {
        Effect::None => (Level::High, "it changes nothing".to_owned()),
        Effect::Workspace => (Level::High, "it stays in the box".to_owned()),
        Effect::External => (Level::Low, "it may change something outside the box".to_owned()),
        Effect::Irreversible => (Level::Low, "nothing undoes it".to_owned()),
    }
}

fn progress(grounds: &Grounds) -> (Level, String) {
    match grounds.repeats {
        0 => (Level::High, "nothing was tried yet".to_owned()),
        _ if grounds.moved => (Level::High, "it fails in another place than before".to_owned()),
        1 | 2 => (Level::Medium, "it fails in the same place as before".to_owned()),
        _ => (Level::Low, "it fails in the same place again and again".to_owned()),
    }
}

fn budget(grounds: &Grounds) -> (Level, String) {
    let is_stuck = grounds.repeats > 0 && !grounds.moved;
    match grounds.budget_left {
        left if left > 0.5 => (Level::High, "more than half of every limit is left".to_owned()),
        left if left < 0.2 && is_stuck => {
            (Level::Low, "less than a fifth of a limit is left, without progress".to_owned())
        }
        _ => (Level::Medium, "less than half of a limit is left".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRESH: Grounds = Grounds {
        has_checks: true,
        repeats: 0,
        ways_failed: 0,
        worked: (5, 5),
        effect: Effect::Workspace,
        moved: false,
        budget_left: 1.0,
    };

    fn level(grounds: Grounds) -> Level {
        confidence(&grounds).level
    }

    #[test]
    fn the_worst_signal_decides() {
        assert_eq!(level(FRESH), Level::High);
        assert_eq!(level(Grounds { worked: (0, 0), ..FRESH }), Level::Medium);
        assert_eq!(level(Grounds { worked: (0, 0), effect: Effect::External, ..FRESH }), Level::Low);
        assert_eq!(level(Grounds { has_checks: false, ..FRESH }), Level::Medium);
        assert_eq!(level(Grounds { repeats: 2, ..FRESH }), Level::Medium);
        assert_eq!(level(Grounds { repeats: 3, ..FRESH }), Level::Low);
        assert_eq!(level(Grounds { ways_failed: 2, ..FRESH }), Level::Low);
        assert_eq!(level(Grounds { effect: Effect::Irreversible, ..FRESH }), Level::Low);
        assert_eq!(level(Grounds { budget_left: 0.1, ..FRESH }), Level::Medium);
        assert_eq!(level(Grounds { budget_left: 0.1, repeats: 1, ..FRESH }), Level::Low);
        assert_eq!(level(Grounds { budget_left: 0.1, repeats: 1, moved: true, ..FRESH }), Level::Medium);
    }

    #[test]
    fn a_share_is_named_only_where_it_was_counted() {
        let novelty = |worked| confidence(&Grounds { worked, ..FRESH }).signals[2].clone();
        assert_eq!(novelty((7, 9)).why, "worked 7 of 9 times");
        assert_eq!((novelty((7, 9)).level, novelty((8, 9)).level), (Level::Medium, Level::High));
        assert!(
            confidence(&Grounds { worked: (0, 0), ..FRESH }).signals.iter().all(|signal| !signal.why.contains('%'))
        );
    }
}
