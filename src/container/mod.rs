//! Containers: a pure plan, and the steps that carry it out inside the child.
