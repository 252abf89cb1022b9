//! From a profile to the program that the kernel runs.
//!
//! The numbers from 0 to the last are cut into pieces of one verdict each; a binary search
//! finds the piece in a handful of comparisons. A verdict that depends on arguments is a
//! body of its own behind the search, once for all calls that share it.

use super::program::{self, Instruction, Program};
use super::{Action, Comparison, Condition, Facts, Profile, Rule, calls};

/// The kernel takes no program of more than [`Instruction::MOST`] instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

/// What happens to a call.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// Whatever its arguments are.
    Always(Action),
    /// The first of these rules (places in the profile) of which all conditions hold.
    First(Vec<usize>),
}

/// An instruction, or the way to a body.
enum Piece {
    Plain(Instruction),
    Body(usize),
}

/// Makes the program of a process.
///
/// # Errors
/// [`TooLong`].
pub fn compile(profile: &Profile, facts: &Facts) -> Result<Program, TooLong> {
    let mut bodies: Vec<Vec<usize>> = Vec::new();
    let search = search(&pieces(profile, facts), &mut bodies)?;
    let mut program = vec![
        Instruction::load(program::ARCHITECTURE),
        Instruction::equal(calls::ARCHITECTURE, 1, 0),
        Instruction::answer(Action::KillProcess.code()),
        Instruction::load(program::NUMBER),
    ];
    let bodies: Vec<Program> =
        bodies.iter().map(|rules| body(profile, rules)).collect::<Result<_, _>>()?;
    let mut starts = Vec::with_capacity(bodies.len());
    let mut end = search.len();
    for body in &bodies {
        starts.push(end);
        end = end.saturating_add(body.len());
    }
    for (place, piece) in search.into_iter().enumerate() {
        program.push(match piece {
            Piece::Plain(instruction) => instruction,
            Piece::Body(index) => {
                let start = starts.get(index).copied().unwrap_or(end);
                let skip = start.saturating_sub(place).saturating_sub(1);
                Instruction::skip(u32::try_from(skip).map_err(|_| TooLong)?)
            }
        });
    }
    program.extend(bodies.into_iter().flatten());
    if program.len() > Instruction::MOST { Err(TooLong) } else { Ok(program) }
}

/// First numbers of pieces, in order from 0, and their verdicts.
fn pieces(profile: &Profile, facts: &Facts) -> Vec<(u32, Verdict)> {
    let mut pieces: Vec<(u32, Verdict)> = Vec::new();
    let mut put = |start: u32, verdict: Verdict| {
        if pieces.last().is_none_or(|(_, last)| *last != verdict) {
            pieces.push((start, verdict));
        }
    };
    let mut next = 0;
    for (number, verdict) in (0..).zip(verdicts(profile, facts)) {
        put(number, verdict);
        next = number.saturating_add(1);
    }
    let newer =
        profile.newer.map(|(highest, action)| (u32::from(highest).saturating_add(1), action));
    if newer.is_none_or(|(first, _)| first > next) {
        put(next, Verdict::Always(profile.otherwise));
    }
    if let Some((first, action)) = newer {
        put(first.max(next), Verdict::Always(action));
    }
    put(calls::FOREIGN, Verdict::Always(Action::ABSENT));
    pieces
}

/// The verdicts on the numbers from 0 to the last that a rule in force is about.
fn verdicts(profile: &Profile, facts: &Facts) -> Vec<Verdict> {
    let mut verdicts: Vec<Verdict> = Vec::new();
    let rules = profile.rules.iter().enumerate().filter(|(_, rule)| rule.when.holds(facts));
    for (place, rule) in rules {
        for number in &rule.calls {
            let index = usize::from(*number);
            if verdicts.len() <= index {
                let none = Verdict::First(Vec::new());
                verdicts.resize(index.saturating_add(1), none);
            }
            match verdicts.get_mut(index) {
                Some(verdict @ Verdict::First(_)) if rule.conditions.is_empty() => {
                    *verdict = Verdict::Always(rule.action);
                }
                Some(Verdict::First(rules)) => rules.push(place),
                Some(Verdict::Always(_)) | None => {}
            }
        }
    }
    let none = Verdict::First(Vec::new());
    for verdict in verdicts.iter_mut().filter(|verdict| **verdict == none) {
        *verdict = Verdict::Always(profile.otherwise);
    }
    verdicts
}

/// The search for the piece of a number that has been loaded.
fn search(pieces: &[(u32, Verdict)], bodies: &mut Vec<Vec<usize>>) -> Result<Vec<Piece>, TooLong> {
    let middle = pieces.len() / 2;
    let (left, right) = pieces.split_at_checked(middle).unwrap_or_default();
    let start = match right.first() {
        Some((start, _)) if !left.is_empty() => *start,
        other => return Ok(other.map(|(_, verdict)| leaf(verdict, bodies)).into_iter().collect()),
    };
    let left = search(left, bodies)?;
    let right = search(right, bodies)?;
    let mut all = Vec::with_capacity(left.len().saturating_add(right.len()).saturating_add(2));
    if let Ok(skip) = u8::try_from(left.len()) {
        all.push(Piece::Plain(Instruction::at_least(start, skip, 0)));
    } else {
        // Conditional jumps are short.
        let skip = u32::try_from(left.len()).map_err(|_| TooLong)?;
        all.push(Piece::Plain(Instruction::at_least(start, 0, 1)));
        all.push(Piece::Plain(Instruction::skip(skip)));
    }
    all.extend(left);
    all.extend(right);
    Ok(all)
}

fn leaf(verdict: &Verdict, bodies: &mut Vec<Vec<usize>>) -> Piece {
    match verdict {
        Verdict::Always(action) => Piece::Plain(Instruction::answer(action.code())),
        Verdict::First(rules) => {
            let known = bodies.iter().position(|body| body == rules);
            Piece::Body(known.unwrap_or_else(|| {
                bodies.push(rules.clone());
                bodies.len().saturating_sub(1)
            }))
        }
    }
}

/// What decides by arguments: each rule in turn, then what holds otherwise.
fn body(profile: &Profile, rules: &[usize]) -> Result<Program, TooLong> {
    let mut program = Program::new();
    for rule in rules.iter().filter_map(|place| profile.rules.get(*place)) {
        program.extend(alternative(rule)?);
    }
    program.push(Instruction::answer(profile.otherwise.code()));
    Ok(program)
}

/// Answers if all conditions of a rule hold; else goes on behind it.
fn alternative(rule: &Rule) -> Result<Program, TooLong> {
    let mut program = vec![Instruction::answer(rule.action.code())];
    for condition in rule.conditions.iter().rev() {
        let mut test = test(condition, program.len())?;
        test.extend(program);
        program = test;
    }
    Ok(program)
}

/// Where a comparison leads.
#[derive(Clone, Copy)]
enum To {
    /// To the next instruction.
    Next,
    /// Behind the test: the condition holds.
    Pass,
    /// Behind the whole rule: it does not.
    Fail,
}

/// The instructions that go on behind themselves if a condition holds, and `rest`
/// instructions further if it does not.
fn test(condition: &Condition, rest: usize) -> Result<Program, TooLong> {
    use Comparison as C;
    use To::{Fail, Next, Pass};
    let Condition { argument, mask, comparison, value } = *condition;
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default();
    let (low, high) = program::argument(argument);
    let mut steps: Vec<(Instruction, To, To)> = Vec::with_capacity(7);
    let load = |steps: &mut Vec<(Instruction, To, To)>, place, mask| {
        steps.push((Instruction::load(place), Next, Next));
        if mask != u32::MAX {
            steps.push((Instruction::and(mask), Next, Next));
        }
    };
    let (upper, lower) = (half(value >> 32), half(value));
    // Where no bit of the upper half counts there is nothing to compare.
    if mask >> 32 != 0 || upper != 0 {
        load(&mut steps, high, half(mask >> 32));
        let equal = Instruction::equal(upper, 0, 0);
        let greater = Instruction::greater(upper, 0, 0);
        match comparison {
            C::Equal => steps.push((equal, Next, Fail)),
            C::NotEqual => steps.push((equal, Next, Pass)),
            C::Less | C::LessOrEqual => {
                steps.extend([(greater, Fail, Next), (equal, Next, Pass)]);
            }
            C::Greater | C::GreaterOrEqual => {
                steps.extend([(greater, Pass, Next), (equal, Next, Fail)]);
            }
        }
    }
    load(&mut steps, low, half(mask));
    steps.push(match comparison {
        C::Equal => (Instruction::equal(lower, 0, 0), Pass, Fail),
        C::NotEqual => (Instruction::equal(lower, 0, 0), Fail, Pass),
        C::Less => (Instruction::at_least(lower, 0, 0), Fail, Pass),
        C::LessOrEqual => (Instruction::greater(lower, 0, 0), Fail, Pass),
        C::Greater => (Instruction::greater(lower, 0, 0), Pass, Fail),
        C::GreaterOrEqual => (Instruction::at_least(lower, 0, 0), Pass, Fail),
    });
    let length = steps.len();
    let resolve = |(place, (instruction, yes, no)): (usize, (Instruction, To, To))| {
        let pass = length.saturating_sub(place).saturating_sub(1);
        let distance = |to: To| {
            let skip = match to {
                Next => 0,
                Pass => pass,
                Fail => pass.saturating_add(rest),
            };
            u8::try_from(skip).map_err(|_| TooLong)
        };
        Ok(Instruction { jt: distance(yes)?, jf: distance(no)?, ..instruction })
    };
    steps.into_iter().enumerate().map(resolve).collect()
}
