//! The laws on small crates that exist in memory.

use super::*;

/// Each file is a path below `src` and its text.
fn broken(files: &[(&str, &str)]) -> Vec<String> {
    let read = |path: &Path| {
        let same = |(file, _): &&(&str, &str)| Path::new("src").join(file) == path;
        files.iter().find(same).map(|(_, text)| (*text).to_owned())
    };
    check_files("x", Path::new("src"), Path::new("src/lib.rs"), &read)
}

#[test]
fn two_files_that_import_from_each_other_are_a_circle() {
    let found = broken(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B; fn f(_: crate::a::A) {}"),
    ]);
    let expected = "x: a circle of 2 files\n    a.rs uses b.rs (B)\n    b.rs uses a.rs (A)";
    assert_eq!(found, [expected]);
}

#[test]
fn imports_in_one_direction_are_no_circle() {
    let found = broken(&[
        ("lib.rs", "mod a; mod b; mod c; pub use a::A;"),
        (
            "a.rs",
            "use crate::{b::B, c}; pub struct A(B); fn f() { c::g() }",
        ),
        ("b.rs", "use crate::c::g; pub struct B;"),
        ("c.rs", "pub fn g() {}"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn longer_circles_are_one_component() {
    let found = broken(&[
        ("lib.rs", "mod a; mod b; mod c; mod d;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; use crate::d::D; pub struct C;"),
        ("d.rs", "pub struct D;"),
    ]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("x: a circle of 3 files"), "{found:?}");
    assert!(!found[0].contains("d.rs"), "{found:?}");
}

#[test]
fn a_reexport_leads_to_the_file_that_defines_the_item() {
    // Through the parent, `one` uses `two` and not the parent.
    let tree = |two: &str| {
        broken(&[
            ("lib.rs", "mod a;"),
            (
                "a/mod.rs",
                "mod one; mod two; pub use one::One; pub use two::*;",
            ),
            ("a/one.rs", "use super::Two; pub struct One(Two);"),
            ("a/two.rs", two),
        ])
    };
    assert_eq!(tree("pub struct Two;"), [""; 0]);
    let circle = tree("pub struct Two; fn f(_: &super::One) {}");
    assert!(
        circle[0].contains("a/one.rs uses a/two.rs (Two)"),
        "{circle:?}"
    );
    assert!(!circle[0].contains("mod.rs"), "{circle:?}");
}

#[test]
fn a_parent_that_uses_its_child_must_not_be_used_by_it() {
    let tree = |parent: &str| {
        broken(&[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", parent),
            (
                "a/child.rs",
                "use super::Parent; pub struct Child(Parent); pub fn f() {}",
            ),
        ])
    };
    let reexport = "mod child; pub use child::Child; pub struct Parent;";
    assert_eq!(tree(reexport), [""; 0]);
    for code in [
        "fn g() { child::f() }",
        "fn g(_: Child) {}",
        "fn g() { assert!(child::f() == ()); }",
        "use child::f;",
    ] {
        let found = tree(&format!("{reexport} {code}"));
        assert!(
            found[0].contains("a/mod.rs uses a/child.rs"),
            "{code}: {found:?}"
        );
    }
}

#[test]
fn tests_may_import_from_anywhere() {
    let found = broken(&[
        ("lib.rs", "mod a; #[cfg(test)] mod tests;"),
        ("a.rs", "mod b; use b::B; pub struct A(B);"),
        (
            "a/b.rs",
            "pub struct B; #[cfg(test)] mod tests { use crate::a::A; }\n\
             impl B { #[cfg(test)] fn f(_: crate::a::A) {} }",
        ),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn modules_import_from_modules() {
    let tree = |b: &str| {
        broken(&[
            ("lib.rs", "mod a; mod b; pub use a::A; pub struct Root;"),
            ("a.rs", "pub struct A;"),
            ("b.rs", b),
        ])
    };
    assert_eq!(tree("use crate::a::A; use crate::Root;"), [""; 0]);
    for path in ["crate::A", "super::A"] {
        let law = format!(
            "x: b.rs: `{path}` is imported from the crate's root; name the module that defines it"
        );
        assert_eq!(tree(&format!("use {path};")), [law]);
    }
}

#[test]
fn a_missing_file_is_reported() {
    assert_eq!(broken(&[("lib.rs", "mod a;")]), ["src/a/mod.rs: missing"]);
}
