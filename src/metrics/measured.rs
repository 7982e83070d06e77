//! What an entry of the catalogue can be: one value, or one for each of its labels' values.

use prometheus::{IntCounter, IntGauge};

use super::encode::Page;
use super::family::{Family, Kind};
use super::owners::Owners;
use super::totals::{Labels, Total, Totals};
use super::vector::{Cell, Vector};

/// Something that is measured.
pub(super) trait Measured {
    /// How.
    const KIND: Kind;

    /// As `family` says.
    fn of(family: &'static Family) -> Self;

    /// Writes what was measured, if anything.
    fn write(&self, family: &'static Family, page: &mut Page);

    /// Tells what was ever counted.
    fn tell(&self, family: &'static Family, totals: &mut Totals);

    /// Goes on from `total` in the series of these labels. Other labels are those of another version: nothing is done.
    fn go_on(&self, labels: &Labels, total: Total);

    /// Takes the series of what is `gone` away.
    fn retire(&self, gone: &Owners<'_>);

    /// Has a series of things of this name.
    #[cfg(test)]
    fn show(&self, _: &str) {}
}

impl<C: Cell> Measured for Vector<C> {
    const KIND: Kind = C::KIND;

    fn of(family: &'static Family) -> Self {
        Self::new(family)
    }

    fn write(&self, family: &'static Family, page: &mut Page) {
        if self.is_empty() {
            return;
        }
        page.begin(family);
        self.walk(|_, series| series.cell.write(&series.earlier, &series.labels, page));
    }

    fn tell(&self, family: &'static Family, totals: &mut Totals) {
        self.walk(|values, series| {
            if let Some(total) = series.cell.total(&series.earlier) {
                let names = family.labels.iter().map(|label| label.name.to_owned());
                let labels = names.zip(values.iter().map(|value| (*value).to_owned()));
                totals.push(family.name, labels.collect(), total);
            }
        });
    }

    fn go_on(&self, labels: &Labels, total: Total) {
        let names = self.family().labels.iter().map(|label| label.name);
        let values = names.map(|name| labels.get(name).map(String::as_str));
        if let Some(values) = values.collect::<Option<Vec<_>>>()
            && values.len() == labels.len()
        {
            self.change(&values, |series| {
                series.cell.go_on(&mut series.earlier, total);
            });
        }
    }

    fn retire(&self, gone: &Owners<'_>) {
        let labels = self.family().labels;
        if gone.may_own(labels) {
            self.remove_where(|values| gone.own_some(labels, values));
        }
    }

    #[cfg(test)]
    fn show(&self, name: &str) {
        use super::labels::Values;
        let labels = self.family().labels.iter();
        let values: Vec<_> = labels
            .map(|label| match label.values {
                Values::Listeners
                | Values::Routes
                | Values::Mirrors
                | Values::Upstreams
                | Values::Endpoints
                | Values::Sets
                | Values::Certificates => name,
                Values::Codes => "200",
                Values::Threads | Values::One => "any",
                Values::Words(words) => words[0],
            })
            .collect();
        self.with_label_values(&values);
    }
}

impl Measured for IntCounter {
    const KIND: Kind = Kind::Counter;

    fn of(family: &'static Family) -> Self {
        Self::new(family.name, family.help).expect(VALID)
    }

    fn write(&self, family: &'static Family, page: &mut Page) {
        page.begin(family);
        Cell::write(self, &(), "", page);
    }

    fn tell(&self, family: &'static Family, totals: &mut Totals) {
        totals.push(family.name, Labels::new(), Total::Count(self.get()));
    }

    fn go_on(&self, labels: &Labels, total: Total) {
        if labels.is_empty() {
            Cell::go_on(self, &mut (), total);
        }
    }

    fn retire(&self, _: &Owners<'_>) {}
}

impl Measured for IntGauge {
    const KIND: Kind = Kind::Gauge;

    fn of(family: &'static Family) -> Self {
        Self::new(family.name, family.help).expect(VALID)
    }

    fn write(&self, family: &'static Family, page: &mut Page) {
        page.begin(family);
        Cell::write(self, &(), "", page);
    }

    fn tell(&self, _: &'static Family, _: &mut Totals) {}

    fn go_on(&self, _: &Labels, _: Total) {}

    fn retire(&self, _: &Owners<'_>) {}
}

const VALID: &str = "names in the list are valid";
