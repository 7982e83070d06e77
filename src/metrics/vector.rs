//! The series of one family, told apart by the values of its labels: each is found when a snapshot is compiled, and looked at when
//! somebody scrapes. Knows no names of things.
//!
//! In place of the `prometheus` crate's: there, values are told apart by what they come to when written one behind the other, so
//! that endpoint `11` of upstream `app` is endpoint `1` of `app1`.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use prometheus::core::Metric;
use prometheus::{Histogram, IntCounter, IntGauge};
use smallvec::SmallVec;

use super::encode::Page;
use super::family::{Family, Kind};
use super::totals::Total;
use crate::lock;

/// Counters by labels.
pub type IntCounterVec = Vector<IntCounter>;
/// Gauges by labels.
pub type IntGaugeVec = Vector<IntGauge>;
/// Histograms by labels.
pub type HistogramVec = Vector<Histogram>;

/// Series by the values of labels. Cheap to clone: all clones are the same.
#[derive(Clone, Debug)]
pub struct Vector<C: Cell>(Arc<Inner<C>>);

#[derive(Debug)]
struct Inner<C: Cell> {
    family: &'static Family,
    /// By [`key`]. A worker takes this lock only for a series that nobody had before; nobody holds it for long.
    series: RwLock<BTreeMap<Box<str>, Series<C>>>,
}

/// One of them.
#[derive(Debug)]
pub(super) struct Series<C: Cell> {
    /// As they are written, without braces: `endpoint="a",upstream="app"`.
    pub(super) labels: Box<str>,
    /// What measures.
    pub(super) cell: C,
    /// What processes before this one have measured.
    pub(super) earlier: C::Earlier,
}

/// What a series can measure with.
pub trait Cell: Metric + Clone + fmt::Debug {
    /// How it measures.
    const KIND: Kind;

    /// What processes before this one have measured, where a cell cannot be told.
    type Earlier: Default + Send + Sync + fmt::Debug;

    /// One that has measured nothing.
    fn new() -> Self;

    /// Writes what was measured under these labels.
    fn write(&self, earlier: &Self::Earlier, labels: &str, page: &mut Page);

    /// What was ever counted, if this counts.
    fn total(&self, earlier: &Self::Earlier) -> Option<Total>;

    /// Goes on from `total`.
    fn go_on(&self, earlier: &mut Self::Earlier, total: Total);
}

/// So many series are looked at with the lock held.
const AT_ONCE: usize = 256;

impl<C: Cell> Vector<C> {
    /// Of `family`, without a series.
    pub(super) fn new(family: &'static Family) -> Self {
        Self(Arc::new(Inner {
            family,
            series: RwLock::default(),
        }))
    }

    /// The series with these values, in the family's order of labels; made where there was none.
    pub fn with_label_values<V: AsRef<str>>(&self, values: &[V]) -> C {
        let key = key(values);
        if let Some(series) = self.read().get(&*key) {
            return series.cell.clone();
        }
        self.change(values, |series| series.cell.clone())
    }

    /// Changes the series with these values; made where there was none.
    pub(super) fn change<V: AsRef<str>, T>(
        &self,
        values: &[V],
        change: impl FnOnce(&mut Series<C>) -> T,
    ) -> T {
        let mut all = self.write();
        let series = all.entry(key(values).into());
        change(series.or_insert_with(|| Series::new(self.0.family, values)))
    }

    /// The series with these values, and no other.
    pub fn only<V: AsRef<str>>(&self, values: &[V]) -> C {
        let only = Series::<C>::new(self.0.family, values);
        let cell = only.cell.clone();
        *self.write() = BTreeMap::from([(key(values).into(), only)]);
        cell
    }

    /// Takes the series with these values away, if there is one.
    pub fn remove_label_values<V: AsRef<str>>(&self, values: &[V]) {
        self.write().remove(&*key(values));
    }

    /// Takes every series away for whose values `is_gone` holds, whoever made it.
    pub(super) fn remove_where(&self, is_gone: impl Fn(&[&str]) -> bool) {
        let mut gone = Vec::new();
        self.walk(|values, _| {
            if is_gone(values) {
                gone.push(key(values));
            }
        });
        // A worker may want one meanwhile.
        for keys in gone.chunks(AT_ONCE) {
            let mut series = self.write();
            for key in keys {
                series.remove(&**key);
            }
        }
    }

    /// Takes every series away but those for whose values `stays` holds.
    pub fn keep(&self, stays: impl Fn(&[&str]) -> bool) {
        self.remove_where(|values| !stays(values));
    }

    /// Shows every series, by the values of its labels.
    pub fn each(&self, mut see: impl FnMut(&[&str], &C)) {
        self.walk(|values, series| see(values, &series.cell));
    }

    /// How many series there are.
    pub fn len(&self) -> usize {
        self.read().len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it is.
    pub(super) fn family(&self) -> &'static Family {
        self.0.family
    }

    /// Shows all in the order of their values, a few at a time: a worker that needs a new one waits for a fraction of a millisecond,
    /// however many there are.
    pub(super) fn walk(&self, mut see: impl FnMut(&[&str], &Series<C>)) {
        let mut last: Option<Box<str>> = None;
        loop {
            let series = self.read();
            let after = last.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
            let some = series.range::<str, _>((after, Bound::Unbounded));
            let mut seen = None;
            for (key, series) in some.take(AT_ONCE) {
                see(&values(key), series);
                seen = Some(key);
            }
            let Some(seen) = seen else {
                return;
            };
            last = Some(seen.clone());
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, BTreeMap<Box<str>, Series<C>>> {
        lock::read(&self.0.series)
    }

    fn write(&self) -> RwLockWriteGuard<'_, BTreeMap<Box<str>, Series<C>>> {
        lock::write(&self.0.series)
    }
}

impl<C: Cell> Series<C> {
    fn new<V: AsRef<str>>(family: &'static Family, values: &[V]) -> Self {
        Self {
            labels: written(family, values),
            cell: C::new(),
            earlier: C::Earlier::default(),
        }
    }
}

/// Every value with its end: no two lists have the same. Names hold no such character.
fn key<V: AsRef<str>>(values: &[V]) -> String {
    let length = values.iter().map(|value| value.as_ref().len() + 1).sum();
    let mut key = String::with_capacity(length);
    for value in values {
        for part in value.as_ref().split(END) {
            key.push_str(part);
        }
        key.push(END);
    }
    key
}

const END: char = '\0';

/// As many as a family has labels.
fn values(key: &str) -> SmallVec<[&str; 4]> {
    key.split_terminator(END).collect()
}

/// Labels in the order of their names, which is that of the exposition.
fn sorted<'a, V: AsRef<str>>(
    family: &'static Family,
    values: &'a [V],
) -> SmallVec<[(&'static str, &'a str); 4]> {
    assert_eq!(values.len(), family.labels.len(), "{}", family.name);
    let names = family.labels.iter().map(|label| label.name);
    let mut labels: SmallVec<_> = names.zip(values.iter().map(AsRef::as_ref)).collect();
    labels.sort_unstable();
    labels
}

fn written<V: AsRef<str>>(family: &'static Family, values: &[V]) -> Box<str> {
    let mut text = String::new();
    for (name, value) in sorted(family, values) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for character in value.chars() {
            match character {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Metrics;
    use super::*;

    #[test]
    fn regression_endpoints_whose_names_read_the_same_behind_those_of_their_upstreams_are_told_apart()
     {
        let metrics = Metrics::new();
        let weight = |upstream, endpoint| {
            let family = &metrics.endpoint_weight;
            family.with_label_values(&[upstream, endpoint])
        };
        weight("app", "11").set(3);
        weight("app1", "1").set(5);
        assert_eq!(weight("app", "11").get(), 3);
        metrics.endpoint_weight.remove_label_values(&["app1", "1"]);
        assert_eq!(weight("app", "11").get(), 3);
        assert_eq!(metrics.endpoint_weight.len(), 1);
    }

    #[test]
    fn all_series_are_shown_in_order_however_many_there_are() {
        let metrics = Metrics::new();
        let names: Vec<String> = (0..AT_ONCE * 2 + 7).map(|it| format!("{it:04}")).collect();
        for name in names.iter().rev() {
            metrics.queue_length.with_label_values(&[name]).inc();
        }
        let mut shown = Vec::new();
        metrics
            .queue_length
            .each(|values, _| shown.push(values[0].to_owned()));
        assert_eq!(shown, names);
        metrics
            .queue_length
            .remove_where(|values| values[0] != "0300");
        assert_eq!(metrics.queue_length.len(), 1);
    }

    #[test]
    fn only_one_is_left() {
        let metrics = Metrics::new();
        for hash in ["a", "b"] {
            metrics.config_hash.only(&[hash]).set(1);
        }
        let mut shown = Vec::new();
        metrics
            .config_hash
            .each(|values, cell| shown.push((values[0].to_owned(), cell.get())));
        assert_eq!(shown, [("b".to_owned(), 1)]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn series_are_told_apart_by_every_value(all in proptest::collection::hash_set("[ab1\"\\\\]{0,3}", 1..6)) {
            let metrics = Metrics::new();
            let family = &metrics.endpoint_weight;
            for (upstream, endpoint) in all.iter().flat_map(|one| all.iter().map(move |other| (one, other))) {
                family.with_label_values(&[upstream, endpoint]).inc();
            }
            prop_assert_eq!(family.len(), all.len() * all.len());
            family.each(|values, cell| assert!(cell.get() == 1 && values.iter().all(|value| all.contains(*value))));
        }
    }
}
