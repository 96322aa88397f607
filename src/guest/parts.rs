//! Counts what a file holds, and what one instance of it would be made of, while it is read.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind,
    ComponentTypeRef, Instance, Payload,
};

use super::bounds::{MAX_INSTANCES, MAX_NESTING, MAX_PARTS};

/// Where the reading is, and what was counted up to there.
pub struct Parts {
    /// The file itself first, then what is within it.
    scopes: Vec<Scope>,
    total: usize,
}

/// A module or component.
#[derive(Default)]
struct Scope {
    is_component: bool,
    /// How many instances an instance of each component is made of, by index.
    components: Vec<u64>,
    /// How many instances an instance of this one is made of besides itself.
    instances: u64,
}

/// Instances of a component that is only known when its surroundings run.
/// Compilers make no such thing; it counts as too many once it is instantiated.
const UNKNOWN: u64 = MAX_INSTANCES + 1;

impl Parts {
    pub fn new() -> Self {
        Self { scopes: vec![Scope::default()], total: 0 }
    }

    /// Whether what is read now belongs to the file itself.
    pub fn at_top(&self) -> bool {
        self.scopes.len() == 1
    }

    /// Takes note of the next payload.
    ///
    /// # Errors
    /// The outer one when it is malformed; the inner one, in words fit for a
    /// user, when there is too much of something.
    pub fn read(&mut self, payload: &Payload<'_>) -> wasmparser::Result<Result<(), String>> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(Ok(())) };
        match payload {
            Payload::ModuleSection { .. } => return Ok(self.enter(false)),
            Payload::ComponentSection { .. } => return Ok(self.enter(true)),
            Payload::End(_) => self.leave(),
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    if matches!(instance?, Instance::Instantiate { .. }) {
                        scope.instances = scope.instances.saturating_add(1);
                    }
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section.clone() {
                    if let ComponentInstance::Instantiate { component_index, .. } = instance? {
                        let made_of = scope.component(component_index);
                        scope.instances = scope.instances.saturating_add(made_of);
                    }
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    if matches!(import?.ty, ComponentTypeRef::Component(_)) {
                        scope.components.push(UNKNOWN);
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    if export.kind == ComponentExternalKind::Component {
                        scope.components.push(scope.component(export.index));
                    }
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?);
                }
            }
            _ => {}
        }
        Ok(match self.scopes.last() {
            Some(scope) if scope.instances > MAX_INSTANCES => {
                Err(format!("an instance of it is made of more than {MAX_INSTANCES} instances"))
            }
            _ => Ok(()),
        })
    }

    fn enter(&mut self, is_component: bool) -> Result<(), String> {
        self.scopes.push(Scope { is_component, ..Scope::default() });
        self.total += 1;
        if self.scopes.len() > MAX_NESTING {
            return Err(format!("components are nested in it more than {MAX_NESTING} levels deep"));
        }
        if self.total > MAX_PARTS {
            return Err(format!("it holds more than {MAX_PARTS} modules and components"));
        }
        Ok(())
    }

    /// Leaves a module or component, or the file itself.
    fn leave(&mut self) {
        let done = self.scopes.pop();
        if let (Some(done), Some(outer)) = (done, self.scopes.last_mut())
            && done.is_component
        {
            outer.components.push(done.instances.saturating_add(1));
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) {
        let made_of = match *alias {
            ComponentAlias::InstanceExport { kind: ComponentExternalKind::Component, .. } => {
                UNKNOWN
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                let outer = self.scopes.iter().rev().nth(count as usize);
                outer.map_or(UNKNOWN, |scope| scope.component(index))
            }
            _ => return,
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.components.push(made_of);
        }
    }
}

impl Scope {
    fn component(&self, index: u32) -> u64 {
        self.components.get(index as usize).copied().unwrap_or(UNKNOWN)
    }
}
