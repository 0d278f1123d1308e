#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;

fn owner(name: &str) -> Owner {
    Owner {
        name: name.to_owned(),
        lacks_role: true,
        lacks_attribute: true,
        lacks_grant: true,
        ..Owner::default()
    }
}

fn superuser() -> Owner {
    Owner { superuser: true, ..owner("postgres") }
}

fn step(kind: &str, owner: Owner) -> PathStep {
    PathStep { kind: kind.to_owned(), name: format!("{kind}1"), owner }
}

fn monitor() -> Monitor {
    Monitor { name: "mon".to_owned(), ..Monitor::default() }
}

fn reasons(
    monitor: &Monitor,
    owners: &[Owner],
    named: &[&str],
) -> Result<Vec<String>, Vec<String>> {
    let steps: Vec<PathStep> = owners.iter().map(|o| step("schema", o.clone())).collect();
    let named: Vec<String> = named.iter().map(|n| (*n).to_owned()).collect();
    judge(monitor, &steps, &named)
        .map(|all| all.iter().map(ToString::to_string).collect())
        .map_err(|steps| steps.iter().map(|s| s.owner.name.clone()).collect())
}

fn refused(names: &[&str]) -> Result<Vec<String>, Vec<String>> {
    Err(names.iter().map(|n| (*n).to_owned()).collect())
}

#[test]
fn superusers_are_trusted_by_every_monitor_and_others_by_none() {
    let powerful = Monitor { superuser: true, reaches_out: true, ..monitor() };
    for monitor in [monitor(), powerful] {
        let all = reasons(&monitor, &[superuser(), superuser()], &[]);
        assert_eq!(all.unwrap(), ["all owned by superusers"]);
        assert_eq!(reasons(&monitor, &[superuser(), owner("eve")], &[]), refused(&["eve"]));
        let two = [owner("eve"), owner("eve"), owner("mal")];
        assert_eq!(reasons(&monitor, &two, &["bob"]), refused(&["eve", "mal"]));
    }
}

#[test]
fn who_has_all_that_the_monitor_has_gains_nothing() {
    let full =
        Owner { lacks_role: false, lacks_attribute: false, lacks_grant: false, ..owner("dba") };
    let trusted = "trusted: owner dba has all that the monitoring role has";
    assert_eq!(reasons(&monitor(), &[superuser(), full.clone()], &[]).unwrap(), [trusted]);
    // One of them is enough to gain.
    for less in [
        Owner { lacks_role: true, ..full.clone() },
        Owner { lacks_attribute: true, ..full.clone() },
        Owner { lacks_grant: true, ..full.clone() },
    ] {
        assert_eq!(reasons(&monitor(), std::slice::from_ref(&less), &[]), refused(&["dba"]));
        let admin = Owner { administers: true, ..less };
        assert_eq!(reasons(&monitor(), &[admin], &[]).unwrap(), [trusted]);
    }
    // A superuser's privileges only a superuser has, or who may become one, or the monitor itself.
    let root = Monitor { superuser: true, ..monitor() };
    let admin = Owner { administers: true, ..full.clone() };
    assert_eq!(reasons(&root, &[full], &[]), refused(&["dba"]));
    assert_eq!(reasons(&root, &[admin], &[]), refused(&["dba"]));
    for may in [
        Owner { is_monitor: true, ..owner("dba") },
        Owner { becomes_superuser: true, ..owner("dba") },
    ] {
        assert_eq!(reasons(&root, std::slice::from_ref(&may), &[]).unwrap(), [trusted]);
        assert_eq!(reasons(&monitor(), &[may], &[]).unwrap(), [trusted]);
    }
}

#[test]
fn the_only_tenant_is_trusted_unless_the_monitor_reaches_beyond_databases() {
    let sole = Owner { sole: true, ..owner("shop") };
    let all = reasons(&monitor(), &[sole.clone(), superuser()], &[]);
    assert_eq!(all.unwrap(), ["trusted: owner shop owns every database"]);
    // A role of the tenant's that owns no database is another party.
    assert_eq!(reasons(&monitor(), &[sole.clone(), owner("dev")], &[]), refused(&["dev"]));
    for more in
        [Monitor { superuser: true, ..monitor() }, Monitor { reaches_out: true, ..monitor() }]
    {
        assert_eq!(reasons(&more, std::slice::from_ref(&sole), &[]), refused(&["shop"]));
    }
}

#[test]
fn the_operator_has_the_last_word() {
    let root = Monitor { superuser: true, ..monitor() };
    let named = "trusted: owner shop is in trust_owners";
    assert_eq!(reasons(&root, &[owner("shop")], &["shop"]).unwrap(), [named]);
    assert_eq!(reasons(&root, &[owner("shop")], &["*"]).unwrap(), [named]);
    let two = [owner("shop"), owner("Shop")];
    assert_eq!(reasons(&root, &two, &["shop"]), refused(&["Shop"]));
}

#[test]
fn an_error_names_the_step_its_owner_and_what_to_do() {
    let need = Need {
        extension: "x",
        oldest: (1, 0),
        functions: &[],
        tables: &[],
        install: "",
        anywhere: true,
    };
    let steps = [step("database", owner("e\nve")), step("schema", owner("mal"))];
    let steps: Vec<&PathStep> = steps.iter().collect();
    let text = distrust("x", "shop", &monitor(), &steps);
    assert_eq!(
        text,
        "x in database shop is not used: database database1 belongs to U&\"e\\000Ave\", schema schema1 \
         belongs to mal, who could run code as mon by it"
    );
    let fix = remedy(Some(&need), "shop", &steps);
    assert!(fix.starts_with("run CREATE EXTENSION x in a database of a superuser's"), "{fix}");
    let here = Need { anywhere: false, ..need };
    let fix = remedy(Some(&here), "shop", &steps);
    assert!(fix.contains("ALTER DATABASE shop OWNER TO postgres, ALTER SCHEMA schema1"), "{fix}");
    assert!(remedy(None, "shop", &steps[1..]).starts_with("run it as mal"));
}
