// SPDX-License-Identifier: Apache-2.0
//! What two answers do not have in common, and the differences of a run grouped by their kind. Pure.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use serde_json::Value;

use super::step::Step;

/// Places shown of one difference.
const PLACES: usize = 12;
/// Letters shown of one value.
const LETTERS: usize = 1500;

/// A place where two values differ.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// JSON pointer.
    pub at: String,
    /// Our server's value; none where it has none.
    pub ours: Option<Value>,
    /// Kubernetes' value.
    pub theirs: Option<Value>,
}

/// Everywhere that two values differ.
pub fn places(ours: &Value, theirs: &Value) -> Vec<Place> {
    let mut places = Vec::new();
    compare(String::new(), Some(ours), Some(theirs), &mut places);
    places
}

fn compare(at: String, ours: Option<&Value>, theirs: Option<&Value>, places: &mut Vec<Place>) {
    match (ours, theirs) {
        (Some(Value::Object(a)), Some(Value::Object(b))) => {
            let fields = a.keys().chain(b.keys().filter(|field| !a.contains_key(*field)));
            for field in fields {
                let step = field.replace('~', "~0").replace('/', "~1");
                compare(format!("{at}/{step}"), a.get(field), b.get(field), places);
            }
        }
        (Some(Value::Array(a)), Some(Value::Array(b))) => {
            for index in 0..a.len().max(b.len()) {
                compare(format!("{at}/{index}"), a.get(index), b.get(index), places);
            }
        }
        (ours, theirs) if ours == theirs => {}
        (ours, theirs) => places.push(Place { at, ours: ours.cloned(), theirs: theirs.cloned() }),
    }
}

/// One difference.
#[derive(Debug, Clone)]
pub struct Difference {
    /// The step that showed it.
    pub step: Step,
    /// The request as it was sent to our server, or the watch.
    pub request: String,
    /// Where the answers differ.
    pub places: Vec<Place>,
}

impl Difference {
    /// Its kind: the kind of request, and the first places, with Kubernetes' words without what is particular in them.
    pub fn group(&self) -> String {
        let code = self
            .places
            .iter()
            .find(|place| place.at == "/code")
            .map(|place| format!(" {} for {}", shown(place.ours.as_ref()), shown(place.theirs.as_ref())));
        // What is stored is told by the path of the object.
        let below = |at: &str| at.splitn(3, '/').nth(2).map(|below| format!("/{below}"));
        let stored = self.step.what == "settle";
        let at = self.places.iter().map(|place| match below(&place.at).filter(|_| stored) {
            Some(below) => wild(&below),
            None => wild(&place.at),
        });
        let mut at: Vec<String> = at.collect();
        at.dedup();
        at.truncate(3);
        let message = self.places.iter().find(|place| place.at.ends_with("/message"));
        let message = message.map_or_else(String::new, |place| {
            format!(" ({} | {})", skeleton(place.ours.as_ref()), skeleton(place.theirs.as_ref()))
        });
        format!("{}{}: {}{message}", self.step.what, code.unwrap_or_default(), at.join(" "))
    }
}

fn wild(pointer: &str) -> String {
    let step = |step: &str| {
        if step.bytes().all(|byte| byte.is_ascii_digit()) { "*".to_owned() } else { step.to_owned() }
    };
    let steps: Vec<String> = pointer.split('/').skip(1).take(6).map(step).collect();
    format!("/{}", steps.join("/"))
}

/// The words of a message without what is quoted, numbered or at its end.
fn skeleton(message: Option<&Value>) -> String {
    let text = message.and_then(Value::as_str).unwrap_or_default();
    let plain: String = text.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    plain.chars().filter(|letter| !letter.is_ascii_digit()).take(110).collect()
}

fn shown(value: Option<&Value>) -> String {
    let Some(value) = value else { return "nothing".to_owned() };
    let text = value.to_string();
    if text.chars().count() <= LETTERS {
        text
    } else {
        format!("{}...", text.chars().take(LETTERS).collect::<String>())
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "step {}: {}", self.step.number, self.request)?;
        for place in self.places.iter().take(PLACES) {
            writeln!(out, "  {}", place.at)?;
            writeln!(out, "    - embedded    {}", shown(place.ours.as_ref()))?;
            writeln!(out, "    + kubernetes  {}", shown(place.theirs.as_ref()))?;
        }
        match self.places.len().saturating_sub(PLACES) {
            0 => Ok(()),
            more => writeln!(out, "  and {more} more"),
        }
    }
}

/// Differences of one kind.
#[derive(Debug)]
pub struct Group {
    /// How many.
    pub count: usize,
    /// The seed of the first.
    pub seed: u64,
    /// The first.
    pub first: Difference,
    /// The least steps that show it, where they were looked for.
    pub steps: Vec<Step>,
}

/// All differences of a run.
#[derive(Debug, Default)]
pub struct Report {
    groups: BTreeMap<String, Group>,
}

impl Report {
    /// Adds those of one sequence; gives the first of each kind that was not there.
    pub fn add(&mut self, seed: u64, differences: Vec<Difference>) -> Vec<Difference> {
        let mut new = Vec::new();
        for difference in differences {
            match self.groups.entry(difference.group()) {
                Entry::Occupied(mut group) => group.get_mut().count += 1,
                Entry::Vacant(group) => {
                    new.push(difference.clone());
                    group.insert(Group { count: 1, seed, first: difference, steps: Vec::new() });
                }
            }
        }
        new
    }

    /// The groups, by name.
    pub fn groups_mut(&mut self) -> impl Iterator<Item = (&String, &mut Group)> {
        self.groups.iter_mut()
    }

    /// How many differences there are.
    pub fn count(&self) -> usize {
        self.groups.values().map(|group| group.count).sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut groups: Vec<_> = self.groups.iter().collect();
        groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.count));
        writeln!(out, "{} differences of {} kinds", self.count(), groups.len())?;
        for (name, group) in groups {
            writeln!(out, "\n== {} x {name}\nseed {}, {}", group.count, group.seed, group.first)?;
            for step in &group.steps {
                writeln!(out, "  needs step {}: {}", step.number, super::driver::asked(step))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::step::Action;
    use super::*;

    #[test]
    fn differences_are_named_by_their_place() {
        let ours = json!({"code": 200, "body": {"a": [1, 2], "b/c": 1}});
        let theirs = json!({"code": 422, "body": {"a": [1, 3, 4], "b/c": 1}});
        let found = places(&ours, &theirs);
        let at: Vec<&str> = found.iter().map(|place| place.at.as_str()).collect();
        assert_eq!(at.len(), 3);
        assert!(at.contains(&"/code") && at.contains(&"/body/a/1") && at.contains(&"/body/a/2"), "{at:?}");
        assert_eq!(found.iter().find(|place| place.at == "/body/a/2").unwrap().ours, None);
        assert_eq!(places(&ours, &ours), []);
    }

    #[test]
    fn differences_of_one_kind_are_counted_together() {
        let step = Step { number: 3, what: "create".into(), about: String::new(), action: Action::Settle };
        let with = |name: &str| Difference {
            step: step.clone(),
            request: "r".into(),
            places: places(
                &json!({"message": format!("\"{name}\" is 1")}),
                &json!({"message": format!("no {name:?}")}),
            ),
        };
        let mut report = Report::default();
        assert_eq!(report.add(1, vec![with("a"), with("b")]).len(), 1);
        assert!(report.add(2, vec![]).is_empty());
        assert_eq!((report.count(), report.groups.len()), (2, 1));
        let text = report.to_string();
        assert!(text.starts_with("2 differences of 1 kinds\n\n== 2 x create: /message"), "{text}");
    }
}
