//! What nothing leads to is removed, and nothing else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use mlplat::artifacts::UploadOptions;
use mlplat_server::clock::{Clock as _, SystemClock, TestClock};
use tonic::Code;

use super::{Artifacts, LARGE, begin, content, local_and_s3, objects, send_part, session, start};

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_nothing_leads_to_are_removed() {
    let clock = Arc::new(TestClock::new(SystemClock.now()));
    let (servers, _s3) = local_and_s3(|builder| {
        builder
            .clock(clock.clone())
            .config(|config| config.artifacts.collect_every_s = 1)
    })
    .await;
    for (server, folder) in servers {
        let run = start(&server).await;
        let file = server.folder().join("file");
        let small = server.folder().join("small");
        for seed in [1, 2] {
            std::fs::write(&file, content(3 << 20, seed)).expect("written");
            std::fs::write(&small, content(5000, seed)).expect("written");
            for path in [&file, &small] {
                run.log_artifact(path).await.expect("uploaded");
            }
        }
        // One upload that is never finished, one whose client goes away in the middle.
        let mut artifacts = Artifacts::new(server.channel().await);
        let large = content(LARGE, 3);
        let broken = session(&mut artifacts, begin(&run, "broken", &large)).await;
        send_part(&mut artifacts, &broken, &large, 2, true)
            .await
            .expect("stored");
        let stored = || {
            let mut sizes = objects(&folder);
            sizes.retain(|size| *size >= 5000);
            sizes.sort_unstable();
            sizes
        };
        assert!(stored().len() >= 5, "{:?}", stored());
        // Within the time of grace all of it stays.
        clock.advance(Duration::from_secs(20 * 3600));
        tokio::time::sleep(Duration::from_millis(1500)).await;
        let again = session(&mut artifacts, begin(&run, "broken", &large)).await;
        assert_eq!(again.stored_parts, [2]);
        // What is recorded again just before is kept: the content of the first small file.
        std::fs::write(&small, content(5000, 1)).expect("written");
        run.log_artifact_with(&small, UploadOptions::default().directory("kept"))
            .await
            .expect("uploaded");
        clock.advance(Duration::from_secs(25 * 3600));
        let expected = [5000, 5000, 3 << 20];
        eventually("the rest is removed", async || stored() == expected).await;
        let gone = send_part(&mut artifacts, &broken, &large, 1, true).await;
        assert_eq!(gone.expect_err("given up").code(), Code::NotFound);
        let back = server.client().artifacts();
        let back = back.download(run.id(), "", server.folder().join("back"));
        let back = back.await.expect("all records have their bytes");
        for (path, seed, size) in [
            ("file", 2, 3 << 20),
            ("small", 2, 5000),
            ("kept/small", 1, 5000),
        ] {
            let read = std::fs::read(back.join(path)).expect("there");
            assert!(read == content(size, seed), "{path}");
        }
        server.stop().await;
    }
}
