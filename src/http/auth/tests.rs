//! What a password costs, and whom a flood of wrong ones holds up.

use super::*;

const COST: u32 = 4;

fn users(given: &[(&str, &str, u32)]) -> BTreeMap<String, PlacedValue<Secret>> {
    let hash = |password: &str, cost| Secret::new(bcrypt::hash(password, cost).unwrap());
    let placed = |(user, password, cost): &(&str, &str, u32)| {
        let value = hash(password, *cost);
        ((*user).to_owned(), PlacedValue { value, place: "web.yml:1:1".to_owned() })
    };
    given.iter().map(placed).collect()
}

fn of(given: &[(&str, &str, u32)]) -> Arc<Users> {
    Arc::new(Users::new(&users(given), None).unwrap())
}

fn header(user: &str, password: &str) -> HeaderValue {
    let text = STANDARD.encode(format!("{user}:{password}"));
    HeaderValue::from_str(&format!("Basic {text}")).unwrap()
}

fn peer(last: u8) -> Peer {
    Peer { address: IpAddr::from([10, 0, 0, last]), failed: Arc::default() }
}

#[tokio::test]
async fn the_right_password_is_hashed_once_and_a_wrong_one_too() {
    let (guard, users) =
        (PasswordGuard::new(), of(&[("alice", "right", COST), ("bob", "b:c", COST)]));
    for (user, password, want) in [
        ("alice", "right", PasswordVerdict::Right),
        ("bob", "b:c", PasswordVerdict::Right),
        ("alice", "b:c", PasswordVerdict::Wrong),
        ("alice", "", PasswordVerdict::Wrong),
        ("nobody", "right", PasswordVerdict::Wrong),
        ("", "right", PasswordVerdict::Wrong),
    ] {
        for _ in 0..2 {
            let got = guard.judge(&users, &header(user, password), &peer(1)).await;
            assert_eq!(got, want, "{user} {password}");
        }
        let tag = users.tag(user, password.as_bytes());
        assert_eq!(
            users.known(user, &tag),
            Some(want == PasswordVerdict::Right),
            "remembered: {user}"
        );
    }
    let turn = guard.turns.clone().acquire_owned().await.unwrap();
    // Nobody can hash now, and both are known all the same.
    assert_eq!(
        guard.judge(&users, &header("alice", "right"), &peer(1)).await,
        PasswordVerdict::Right
    );
    assert_eq!(guard.judge(&users, &header("alice", ""), &peer(1)).await, PasswordVerdict::Wrong);
    drop(turn);
    for broken in ["Basic", "Basic !!!", "Bearer abc", "Basic YWxpY2U=", "basic"] {
        let got = guard.judge(&users, &HeaderValue::from_static(broken), &peer(2)).await;
        assert_eq!(got, PasswordVerdict::Wrong, "{broken}");
    }
    let lower = header("alice", "right").to_str().unwrap().replace("Basic", "bAsIc");
    let lower = HeaderValue::from_str(&lower).unwrap();
    assert_eq!(guard.judge(&users, &lower, &peer(2)).await, PasswordVerdict::Right);
}

#[tokio::test]
async fn an_address_that_fails_waits_and_others_do_not() {
    let (guard, users) = (PasswordGuard::new(), of(&[("alice", "right", COST)]));
    let attacker = peer(1);
    let mut later = 0;
    for n in 0..1000 {
        let got = guard.judge(&users, &header("alice", &format!("wrong{n}")), &attacker).await;
        assert_ne!(got, PasswordVerdict::Right);
        later += usize::from(got == PasswordVerdict::Later);
    }
    assert!(later > 900, "{later}");
    assert_eq!(
        guard.judge(&users, &header("alice", "right"), &peer(2)).await,
        PasswordVerdict::Right
    );
    // Behind the same address, on a connection of its own: it is right already, and else it would wait its turn.
    let behind = Peer { address: attacker.address, failed: Arc::default() };
    assert_eq!(
        guard.judge(&users, &header("alice", "right"), &behind).await,
        PasswordVerdict::Right
    );
    let cold = of(&[("alice", "right", COST)]);
    assert_eq!(
        guard.judge(&cold, &header("alice", "right"), &behind).await,
        PasswordVerdict::Right
    );
    // A right password is no failure: it leaves room for more.
    for _ in 0..50 {
        let fresh = of(&[("alice", "right", COST)]);
        assert_eq!(
            guard.judge(&fresh, &header("alice", "right"), &peer(3)).await,
            PasswordVerdict::Right
        );
    }
}

#[tokio::test]
async fn an_unknown_user_costs_what_a_known_one_costs() {
    let users = of(&[("alice", "right", COST), ("bob", "right", 6)]);
    let costs = |user: &str| {
        let hash = users.hash(user).unwrap();
        let cost = hash.expose().parse::<HashParts>().unwrap().get_cost();
        (cost, hash)
    };
    assert_eq!((costs("alice").0, costs("bob").0), (COST, 6));
    let (mut cheap, mut dear) = (0, 0);
    for n in 0..100 {
        let user = format!("user{n}");
        assert_eq!(costs(&user), costs(&user), "always the same");
        if costs(&user).0 == COST {
            cheap += 1
        } else {
            dear += 1
        }
        // Another's hash lets nobody in.
        let got = PasswordGuard::new().judge(&users, &header(&user, "right"), &peer(1)).await;
        assert_eq!(got, PasswordVerdict::Wrong);
    }
    assert!(cheap > 10 && dear > 10, "{cheap} {dear}: as if they were users of ours");
}

#[tokio::test]
async fn a_new_file_forgets_whose_password_it_changes() {
    let given =
        users(&[("alice", "right", COST), ("bob", "right", COST), ("carol", "right", COST)]);
    let before = Arc::new(Users::new(&given, None).unwrap());
    let guard = PasswordGuard::new();
    for user in ["alice", "bob", "carol"] {
        assert_eq!(
            guard.judge(&before, &header(user, "right"), &peer(1)).await,
            PasswordVerdict::Right
        );
    }
    let mut next = given.clone();
    next.remove("carol");
    next.extend(users(&[("bob", "another", COST)]));
    let after = Arc::new(Users::new(&next, Some(&before)).unwrap());
    let known = |user: &str| after.known(user, &after.tag(user, b"right"));
    assert_eq!(["alice", "bob", "carol"].map(known), [Some(true), None, None]);
    for (user, want) in [
        ("bob", PasswordVerdict::Wrong),
        ("carol", PasswordVerdict::Wrong),
        ("alice", PasswordVerdict::Right),
    ] {
        assert_eq!(guard.judge(&after, &header(user, "right"), &peer(1)).await, want, "{user}");
    }
    let mut broken = given;
    broken.insert(
        "eve".to_owned(),
        PlacedValue { value: Secret::new("x"), place: "web.yml:7:3".into() },
    );
    assert_eq!(Users::new(&broken, None).err().unwrap().place, "web.yml:7:3");
}

#[test]
fn what_many_addresses_leave_behind_is_bounded() {
    let mut failures = Failures::default();
    for n in 0..3 * u32::try_from(ADDRESSES).unwrap() {
        failures.take(IpAddr::from(n.to_be_bytes()));
    }
    assert!(failures.by_address.len() <= ADDRESSES);
    let users = of(&[("alice", "right", COST)]);
    for n in 0..2 * REMEMBERED {
        users.learn("alice".to_owned(), users.tag("alice", &n.to_le_bytes()), false);
    }
    assert_eq!(lock(&users.wrong).len(), REMEMBERED);
}
