//! The shape that a tree is created with: how many nodes of each role, reserves, limits.

use crate::topology::TIERS_MAX;

/// How a tree is cut. Counts say with what it is complete: what lacks of them is found and told. Its shape follows the
/// nodes that there are, within the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Injection nodes.
    pub injection: u32,
    /// Relay nodes.
    pub relay: u32,
    /// Egress nodes.
    pub egress: u32,
    /// Relay-slots that run and carry nothing.
    pub slots_warm: u32,
    /// Relay-slots that are created and not started.
    pub slots_cold: u32,
    /// Egress nodes that a relay is meant for, and that one scale-out adds (`subTreeStandard`: 16).
    pub egress_per_relay: u32,
    /// What may not be exceeded.
    pub limits: Limits,
}

/// Limits of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Most nodes, slots included.
    pub max_nodes: u32,
    /// Most egress nodes that an injection node feeds without a relay between them.
    pub direct_children_max: u32,
    /// From how many parents a node takes each broadcast at once: 2 loses no packet when one dies.
    pub paths: u8,
    /// Parents beyond those, connected and silent.
    pub standbys: u8,
    /// Most relays in a row between injection and egress; 0: none at all.
    pub relay_levels_max: u8,
    /// Most children of a relay, those for which it stands by included; `None`: as many as it takes by itself.
    pub relay_children_max: Option<u32>,
}

/// Why a template cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// Nobody could publish or nobody could watch.
    #[error("a tree has at least one injection and one egress node")]
    Incomplete,
    /// More nodes than the limit allows.
    #[error("the template asks for {asked} nodes, slots included, and its nodes_max is {max_nodes}")]
    TooManyNodes {
        /// Of all roles and slots.
        asked: u64,
        /// The limit.
        max_nodes: u32,
    },
    /// A relay would have no children.
    #[error("sub_tree_egress and relay_children_max are at least 1")]
    NoChildren,
    /// Zero paths, or more parents than a node can have.
    #[error("paths is 1 to 4, and paths and standbys together at most {}", crate::PARENTS_MAX)]
    Paths,
    /// More relays in a row than a tree has.
    #[error("relay_levels_max is 0 to {}", crate::topology::TIERS_MAX)]
    RelayLevels,
    /// Relays that could do nothing.
    #[error(
        "relay_levels_max is 0, so that there are no relays: relay, warm_slots and cold_slots are 0 then, too"
    )]
    IdleRelays,
}

/// Egress nodes in one sub-tree: template `subTreeStandard`.
pub const SUB_TREE_STANDARD_EGRESS: u32 = 16;

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_nodes: 100,
            direct_children_max: 16,
            paths: 2,
            standbys: 1,
            relay_levels_max: TIERS_MAX,
            relay_children_max: None,
        }
    }
}

impl Template {
    /// One injection and one egress node, nothing in reserve.
    #[must_use]
    pub fn minimal() -> Self {
        Self {
            injection: 1,
            relay: 0,
            egress: 1,
            slots_warm: 0,
            slots_cold: 0,
            egress_per_relay: SUB_TREE_STANDARD_EGRESS,
            limits: Limits::default(),
        }
    }

    /// One injection node, two relays on which every egress can stand, one sub-tree's egress nodes, one warm and two
    /// cold slots.
    #[must_use]
    pub fn standard() -> Self {
        Self { relay: 2, egress: SUB_TREE_STANDARD_EGRESS, slots_warm: 1, slots_cold: 2, ..Self::minimal() }
    }

    /// Of a tree that nobody has made: the standard one, complete with whatever nodes come.
    #[must_use]
    pub fn unasked() -> Self {
        Self { relay: 0, egress: 1, ..Self::standard() }
    }

    /// The template of this name: `minimal` or `standard`.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        match name {
            "minimal" => Some(Self::minimal()),
            "standard" => Some(Self::standard()),
            _ => None,
        }
    }

    /// Looks at the whole.
    ///
    /// # Errors
    /// [`TemplateError`] names the first rule that it breaks.
    pub fn check(&self) -> Result<(), TemplateError> {
        if self.injection == 0 || self.egress == 0 {
            return Err(TemplateError::Incomplete);
        }
        if self.egress_per_relay == 0 || self.limits.relay_children_max == Some(0) {
            return Err(TemplateError::NoChildren);
        }
        if self.limits.relay_levels_max > TIERS_MAX {
            return Err(TemplateError::RelayLevels);
        }
        if self.limits.relay_levels_max == 0 && [self.relay, self.slots_warm, self.slots_cold] != [0; 3] {
            return Err(TemplateError::IdleRelays);
        }
        let parents = usize::from(self.limits.paths) + usize::from(self.limits.standbys);
        if !(1..=4).contains(&self.limits.paths) || parents > crate::PARENTS_MAX {
            return Err(TemplateError::Paths);
        }
        let counts = [self.injection, self.relay, self.egress, self.slots_warm, self.slots_cold];
        let asked = counts.into_iter().map(u64::from).sum();
        if asked > u64::from(self.limits.max_nodes) {
            return Err(TemplateError::TooManyNodes { asked, max_nodes: self.limits.max_nodes });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_named_templates_are_good() {
        for name in ["minimal", "standard"] {
            assert_eq!(Template::by_name(name).expect("a name").check(), Ok(()), "{name}");
        }
        assert_eq!(Template::unasked().check(), Ok(()));
        assert_eq!(Template::by_name("huge"), None);
    }

    #[test]
    fn a_template_says_what_is_wrong_with_it() {
        let standard = Template::standard();
        let limits = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            Template { limits, ..Template::standard() }.check()
        };
        assert_eq!(Template { egress: 0, ..standard.clone() }.check(), Err(TemplateError::Incomplete));
        assert_eq!(Template { egress_per_relay: 0, ..standard }.check(), Err(TemplateError::NoChildren));
        assert_eq!(limits(|limits| limits.relay_children_max = Some(0)), Err(TemplateError::NoChildren));
        assert_eq!(limits(|limits| limits.relay_levels_max = 5), Err(TemplateError::RelayLevels));
        assert_eq!(limits(|limits| limits.relay_levels_max = 0), Err(TemplateError::IdleRelays));
        let flat = Limits { relay_levels_max: 0, ..Limits::default() };
        assert_eq!(Template { limits: flat, ..Template::minimal() }.check(), Ok(()));
        assert_eq!(limits(|limits| limits.paths = 0), Err(TemplateError::Paths));
        assert_eq!(limits(|limits| limits.standbys = 7), Err(TemplateError::Paths));
        let too_many = Err(TemplateError::TooManyNodes { asked: 22, max_nodes: 20 });
        assert_eq!(limits(|limits| limits.max_nodes = 20), too_many);
    }
}
