use std::collections::BTreeSet;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::support::*;

fn titles(page: &Value) -> Vec<String> {
    page["results"].as_array().unwrap().iter().map(|s| s["title"].as_str().unwrap().to_owned()).collect()
}

/// Follows the links to the end.
async fn walk(client: &Client<'_>, first: &str, direction: &str) -> Vec<String> {
    let (mut to, mut all) = (Some(first.to_owned()), Vec::new());
    while let Some(address) = to {
        let page = client.get(&address).await.expect(StatusCode::OK);
        all.push(titles(&page));
        to = page[direction].as_str().map(|link| link.strip_prefix(BASE).unwrap().to_owned());
    }
    all.concat()
}

#[tokio::test]
async fn pages_neither_repeat_nor_lose_anything_while_sessions_come_and_go() {
    let app = TestApp::start().await;
    // Several start at the same moment.
    let mut made = Vec::new();
    for n in 0..11 {
        let at = in_minutes(1000 + n / 3);
        made.push(app.planned(json!({"title": format!("{n:02}"), "starts_at": at, "ends_at": in_minutes(1100)})).await);
    }
    let teacher = app.teacher();
    let all = walk(&teacher, "/sessions/?ordering=starts_at&page_size=4", "next").await;
    assert_eq!(all, (0..11).map(|n| format!("{n:02}")).collect::<Vec<_>>());
    let reversed = walk(&teacher, "/sessions/?page_size=3", "next").await;
    assert_eq!(reversed, all.iter().rev().cloned().collect::<Vec<_>>());

    let first = teacher.get("/sessions/?ordering=starts_at&page_size=4").await.expect(StatusCode::OK);
    assert_eq!(first["previous"], Value::Null);
    let next = first["next"].as_str().unwrap().strip_prefix(BASE).unwrap().to_owned();
    // The row beside the cursor goes, an earlier one comes: the next page is the same.
    teacher.delete(&path(&made[3], "")).await;
    app.planned(json!({"title": "early", "starts_at": in_minutes(10), "ends_at": in_minutes(20)})).await;
    let second = teacher.get(&next).await.expect(StatusCode::OK);
    assert_eq!(titles(&second), ["04", "05", "06", "07"]);
    let back = second["previous"].as_str().unwrap().strip_prefix(BASE).unwrap().to_owned();
    assert_eq!(titles(&teacher.get(&back).await.expect(StatusCode::OK)), ["early", "00", "01", "02"]);
    // A cursor of another order is refused.
    let mixed = next.replace("ordering=starts_at", "ordering=-starts_at");
    teacher.get(&mixed).await.problem(400, "invalid-parameter");
}

#[tokio::test]
async fn filters_narrow_the_list_and_stay_in_its_links() {
    let app = TestApp::start().await;
    app.planned(json!({"title": "Algebra 100%", "course_id": "MAT"})).await;
    app.planned(
        json!({"title": "Algebra_2", "course_id": "MAT", "starts_at": in_minutes(600), "ends_at": in_minutes(660)}),
    )
    .await;
    app.planned(json!({"title": "Biology", "kind": "webinar"})).await;
    app.live(json!({"title": "Live"})).await;
    let find = async |query: &str| -> BTreeSet<String> {
        let page = app.teacher().get(&format!("/sessions/?{query}")).await.expect(StatusCode::OK);
        titles(&page).into_iter().collect()
    };
    let set = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(find("status=live").await, set(&["Live"]));
    assert_eq!(find("status=scheduled,live&kind=webinar").await, set(&["Biology"]));
    assert_eq!(find("course_id=MAT").await, set(&["Algebra 100%", "Algebra_2"]));
    assert_eq!(find("search=ALGEBRA").await, set(&["Algebra 100%", "Algebra_2"]));
    assert_eq!(find("search=0%25").await, set(&["Algebra 100%"]));
    assert_eq!(find("search=_2").await, set(&["Algebra_2"]));
    assert_eq!(find("search=%25_%25").await, set(&[]));
    assert_eq!(find(&format!("starts_after={}", in_minutes(300))).await, set(&["Algebra_2"]));
    assert_eq!(
        find(&format!("starts_before={}&status=scheduled", in_minutes(300))).await,
        set(&["Algebra 100%", "Biology"])
    );
    let walked = walk(&app.teacher(), "/sessions/?course_id=MAT&search=a&page_size=1", "next").await;
    assert_eq!(walked.len(), 2);
}

#[tokio::test]
async fn people_list_what_concerns_them() {
    let app = TestApp::start().await;
    app.planned(json!({"title": "open"})).await;
    app.planned(json!({"title": "invited", "access": "invitees", "invitees": [{"person_id": "s1"}]})).await;
    app.planned(json!({"title": "closed", "access": "invitees"})).await;
    let body = session(json!({"title": "hosts", "access": "invitees", "host_id": "s1"}));
    app.service().post("/sessions/", &body).await.expect(StatusCode::CREATED);
    // Open, invited and hosting at once is still one session.
    let body = session(json!({"title": "all", "host_id": "s1", "invitees": [{"person_id": "s1"}]}));
    app.service().post("/sessions/", &body).await.expect(StatusCode::CREATED);
    let list = async |client: Client<'_>| {
        let mut all = walk(&client, "/sessions/?page_size=2", "next").await;
        all.sort();
        all
    };
    assert_eq!(list(app.student("s1")).await, ["all", "hosts", "invited", "open"]);
    assert_eq!(list(app.student("s2")).await, ["all", "open"]);
    assert_eq!(list(app.admin()).await, ["all", "closed", "hosts", "invited", "open"]);
    assert_eq!(list(app.foreigner()).await, Vec::<String>::new());
}
