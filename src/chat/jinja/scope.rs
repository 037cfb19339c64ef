//! Variables.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::fault::Fault;
use super::meter::{Charge, Meter};

/// The variables of a template, a macro, or one iteration of a loop, with values of type `V`.
#[derive(Debug)]
pub(super) struct Scope<V> {
    variables: RefCell<Vec<(Arc<str>, V)>>,
    parent: Option<Rc<Scope<V>>>,
    charge: RefCell<Charge>,
}

impl<V: Clone> Scope<V> {
    pub fn new(meter: &Rc<Meter>, parent: Option<&Rc<Self>>) -> Result<Rc<Self>, Fault> {
        let charge = RefCell::new(meter.hold(96)?);
        Ok(Rc::new(Self { variables: RefCell::default(), parent: parent.cloned(), charge }))
    }

    /// Sets a variable in this scope.
    pub fn set(&self, name: &Arc<str>, value: V, meter: &Meter) -> Result<(), Fault> {
        let mut variables = self.variables.borrow_mut();
        meter.pay(variables.len() / 32)?;
        if let Some((_, slot)) = variables.iter_mut().find(|(known, _)| known == name) {
            let old = std::mem::replace(slot, value);
            // What the old value held may be this scope itself.
            drop(variables);
            drop(old);
        } else {
            self.charge.borrow_mut().grow(2 * size_of::<(Arc<str>, V)>())?;
            variables.push((Arc::clone(name), value));
        }
        Ok(())
    }

    /// A variable of this scope or of those around it.
    pub fn get(&self, name: &str, meter: &Meter) -> Result<Option<V>, Fault> {
        let mut scope = Some(self);
        while let Some(here) = scope {
            let variables = here.variables.borrow();
            meter.pay(variables.len() / 32)?;
            if let Some((_, value)) = variables.iter().find(|(known, _)| **known == *name) {
                return Ok(Some(value.clone()));
            }
            scope = here.parent.as_deref();
        }
        Ok(None)
    }

    /// Removes all variables. A macro captures the scope that contains it, so scopes would never be freed otherwise.
    pub fn clear(&self) {
        let variables = self.variables.take();
        drop(variables);
    }
}
