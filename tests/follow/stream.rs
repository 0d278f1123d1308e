//! A real subscription beside a plan: what the subscriber holds is what the publisher holds.
//!
//! Must not: take for granted that the apply worker lives; its errors are counted.

use std::time::Duration;

use super::case::{Case, Publish, Shape, Source};
use super::crowd::Crowd;
use super::{common, major, plan, psql, roles, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subscriber_stays_equal_while_rows_move() {
    let cluster = common::server_with(&[("wal_level", "logical")], &[]).await;
    roles(&cluster).await;
    let postgres = common::admin(&cluster, "postgres").await;
    // A tree of its own with a DEFAULT, or one plain table.
    for (n, (source, publish, plain)) in [
        (Source::Default, Publish::Root, true),
        (Source::Default, Publish::AllByRoot, false),
        (Source::Open, Publish::Root, true),
        (Source::Default, Publish::Leaves, false),
    ]
    .into_iter()
    .enumerate()
    {
        let case = Case {
            source,
            publish,
            shape: Shape::Flat,
            key: "timestamptz",
            refers: None,
            refers_leaf: false,
            secured: false,
            replica_full: false,
            foreign_owner: None,
            ..Case::new(7, major(&cluster).await)
        };
        let (here, there) = (format!("pub{n}"), format!("sub{n}"));
        for name in [&here, &there] {
            postgres.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        }
        let publisher = common::admin(&cluster, &here).await;
        publisher.batch_execute(&case.setup()).await.unwrap();
        let subscriber = common::admin(&cluster, &there).await;
        let tree = Case { publish: Publish::None, triggers: false, ..case.clone() };
        if plain {
            let sql = format!(
                "CREATE SCHEMA {}; CREATE TABLE {} (id int8, at timestamptz, region text, note text, ref int, PRIMARY KEY (id, at))",
                pgrunway::remedy::quote::ident(&case.schema),
                case.root()
            );
            subscriber.batch_execute(&sql).await.unwrap();
        } else {
            subscriber.batch_execute(&tree.setup()).await.unwrap();
        }
        subscriber.batch_execute(&format!("DELETE FROM {}", case.root())).await.unwrap();
        // In one cluster the slot must be there first.
        publisher
            .execute(
                &format!("SELECT pg_create_logical_replication_slot('{there}', 'pgoutput')"),
                &[],
            )
            .await
            .unwrap();
        let connection = format!(
            "host={} port={} user=postgres dbname={here}",
            cluster.socket_dir().display(),
            cluster.port()
        );
        let sql = format!(
            "CREATE SUBSCRIPTION s{n} CONNECTION '{connection}' PUBLICATION pub WITH (create_slot = false, slot_name = '{there}')"
        );
        subscriber.batch_execute(&sql).await.unwrap();
        let content = format!(
            "SELECT md5(string_agg(concat_ws('|', id, at, region, note, ref), ',' ORDER BY id, at)) || ' ' || count(*) FROM {}",
            case.root()
        );
        equal(&publisher, &subscriber, &content).await;

        let script = plan(
            &cluster,
            &here,
            &pgrunway::remedy::quote::spelled(&case.schema, &case.table),
            "5",
        )
        .await;
        let mut clients = Vec::new();
        for _ in 0..3 {
            clients.push(common::admin(&cluster, &here).await);
        }
        let [writer, reader, blocker] = clients.try_into().unwrap();
        let crowd = Crowd::start(&case, writer, reader, blocker);
        let (ok, said) = psql(&cluster, "postgres", &here, &script).await;
        let seen = crowd.end().await;
        assert_eq!(seen.faults, Vec::<String>::new());
        assert_eq!(ok, !case.refuses(), "{said}");
        assert!(ok || said.contains("publication pub"), "{said}");
        equal(&publisher, &subscriber, &content).await;
        if ok {
            let moved = format!(
                "SELECT count(*)::text FROM {} WHERE at < date_trunc('day', now()) + interval '6 days'",
                case.named(if source == Source::Open { "_future" } else { "_rest" })
            );
            let left =
                texts(&publisher, &format!("{moved} AND at >= date_trunc('day', now())")).await;
            assert_eq!(left, ["0"]);
        }
        // After it the stream goes on.
        publisher
            .batch_execute(&format!("DELETE FROM {} WHERE id % 3 = 0", case.root()))
            .await
            .unwrap();
        equal(&publisher, &subscriber, &content).await;
        let drop = format!(
            "ALTER SUBSCRIPTION s{n} DISABLE; ALTER SUBSCRIPTION s{n} SET (slot_name = NONE)"
        );
        for sql in drop.split("; ").chain([format!("DROP SUBSCRIPTION s{n}").as_str()]) {
            subscriber.batch_execute(sql).await.unwrap();
        }
    }
}

async fn equal(
    publisher: &tokio_postgres::Client,
    subscriber: &tokio_postgres::Client,
    content: &str,
) {
    let want = texts(publisher, content).await;
    let limit = std::time::Instant::now() + Duration::from_secs(60);
    loop {
        let have = texts(subscriber, content).await;
        if have == want {
            return;
        }
        assert!(
            std::time::Instant::now() < limit,
            "the subscriber has {have:?}, the publisher {want:?}"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
