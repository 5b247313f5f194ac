//! The S3 server, with both clients that the services use.

use std::time::Duration;

use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use rusty_s3::{Bucket, S3Action, UrlStyle};
use sandbox::s3::{REGION, S3};
use sandbox::testing::{BUCKET, servers, unique_prefix};

fn sdk(s3: &S3, secret: &str) -> aws_sdk_s3::Client {
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .endpoint_url(s3.endpoint())
        .region(Region::new(REGION))
        .credentials_provider(Credentials::new(s3.access_key(), secret, None, None, "test"))
        .force_path_style(true)
        .build();
    aws_sdk_s3::Client::from_conf(config)
}

fn client(s3: &S3) -> aws_sdk_s3::Client {
    sdk(s3, s3.secret_key())
}

fn signer(s3: &S3, secret: &str) -> (Bucket, rusty_s3::Credentials) {
    let bucket = Bucket::new(s3.endpoint().parse().unwrap(), UrlStyle::Path, BUCKET, REGION).unwrap();
    (bucket, rusty_s3::Credentials::new(s3.access_key(), secret))
}

#[tokio::test]
async fn an_object_is_put_read_listed_and_deleted() {
    let s3 = &servers().await.s3;
    let client = client(s3);
    let prefix = unique_prefix();
    let key = format!("{prefix}/a/ders çarşamba.mp4");
    client
        .put_object()
        .bucket(BUCKET)
        .key(&key)
        .content_type("video/mp4")
        .metadata("sha256", "abc")
        .body(ByteStream::from_static(b"hello"))
        .send()
        .await
        .unwrap();
    let head = client.head_object().bucket(BUCKET).key(&key).send().await.unwrap();
    assert_eq!(head.content_length(), Some(5));
    assert_eq!(head.content_type(), Some("video/mp4"));
    assert_eq!(head.metadata().unwrap()["sha256"], "abc");
    let part = client.get_object().bucket(BUCKET).key(&key).range("bytes=1-3").send().await.unwrap();
    assert_eq!(part.content_range(), Some("bytes 1-3/5"));
    assert_eq!(part.body.collect().await.unwrap().to_vec(), b"ell");
    let list = client.list_objects_v2().bucket(BUCKET).prefix(&prefix).send().await.unwrap();
    assert_eq!(list.contents().len(), 1);
    assert_eq!(list.contents()[0].key(), Some(key.as_str()));
    client.delete_object().bucket(BUCKET).key(&key).send().await.unwrap();
    let error = client.get_object().bucket(BUCKET).key(&key).send().await.unwrap_err();
    assert_eq!(error.code(), Some("NoSuchKey"));
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let s3 = &servers().await.s3;
    let key = unique_prefix();
    let put = sdk(s3, "wrong").put_object().bucket(BUCKET).key(&key);
    let error = put.body(ByteStream::from_static(b"x")).send().await.unwrap_err();
    assert_eq!(error.code(), Some("SignatureDoesNotMatch"));
    let unsigned = reqwest::get(format!("{}/{BUCKET}/{key}", s3.endpoint())).await.unwrap();
    assert_eq!(unsigned.status(), reqwest::StatusCode::FORBIDDEN);
    let missing = client(s3).head_object().bucket(BUCKET).key(&key).send().await;
    assert!(missing.unwrap_err().into_service_error().is_not_found());
}

#[tokio::test]
async fn a_presigned_link_downloads_until_it_is_changed_or_old() {
    let s3 = &servers().await.s3;
    let key = format!("{}/recording.mp4", unique_prefix());
    let put = client(s3).put_object().bucket(BUCKET).key(&key);
    put.content_type("video/mp4").body(ByteStream::from_static(b"hello")).send().await.unwrap();
    let (bucket, credentials) = signer(s3, s3.secret_key());
    let mut get = bucket.get_object(Some(&credentials), &key);
    get.query_mut().insert("response-content-disposition", "attachment; filename=\"ders.mp4\"");
    let link = get.sign(Duration::from_secs(60));
    let response = reqwest::get(link.clone()).await.unwrap();
    assert_eq!(response.status(), reqwest::StatusCode::OK);
    assert_eq!(response.headers()["content-disposition"], "attachment; filename=\"ders.mp4\"");
    assert_eq!(response.headers()["content-type"], "video/mp4");
    assert_eq!(response.bytes().await.unwrap().as_ref(), b"hello");

    let changed = link.as_str().replace("recording.mp4", "another.mp4");
    assert_eq!(reqwest::get(changed).await.unwrap().status(), reqwest::StatusCode::FORBIDDEN);
    let (bucket, forged) = signer(s3, "wrong");
    let link = bucket.get_object(Some(&forged), &key).sign(Duration::from_secs(60));
    assert_eq!(reqwest::get(link).await.unwrap().status(), reqwest::StatusCode::FORBIDDEN);
    let old = bucket
        .get_object(Some(&credentials), &key)
        .sign_with_time(Duration::from_secs(60), &"2020-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(reqwest::get(old).await.unwrap().status(), reqwest::StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_large_object_goes_up_in_parts_and_replaces_a_former_one() {
    let s3 = &servers().await.s3;
    let client = client(s3);
    let key = format!("{}/large.mp4", unique_prefix());
    // The client stores a checksum with this one; it must not stick to its successor.
    let former = client.put_object().bucket(BUCKET).key(&key);
    former.body(ByteStream::from_static(b"former")).send().await.unwrap();
    let upload = client
        .create_multipart_upload()
        .bucket(BUCKET)
        .key(&key)
        .content_type("video/mp4")
        .metadata("sha256", "abc")
        .send()
        .await
        .unwrap();
    let id = upload.upload_id().unwrap();
    let sizes = [5 * 1024 * 1024, 1000];
    let mut parts = Vec::new();
    for (number, size) in (1..).zip(sizes) {
        let body = ByteStream::from(vec![u8::try_from(number).unwrap(); size]);
        let part = client.upload_part().bucket(BUCKET).key(&key).upload_id(id).part_number(number);
        let sent = part.body(body).send().await.unwrap();
        parts.push(CompletedPart::builder().part_number(number).e_tag(sent.e_tag().unwrap()).build());
    }
    let completed = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
    let complete = client.complete_multipart_upload().bucket(BUCKET).key(&key).upload_id(id);
    complete.clone().multipart_upload(completed.clone()).send().await.unwrap();
    let object = client.get_object().bucket(BUCKET).key(&key).send().await.unwrap();
    assert_eq!(object.content_type(), Some("video/mp4"));
    assert_eq!(object.metadata().unwrap()["sha256"], "abc");
    let bytes = object.body.collect().await.unwrap().to_vec();
    assert_eq!(bytes.len(), sizes.iter().sum::<usize>());
    assert!(bytes[..sizes[0]].iter().all(|byte| *byte == 1) && bytes[sizes[0]..].iter().all(|byte| *byte == 2));
    let again = complete.multipart_upload(completed).send().await.unwrap_err();
    assert_eq!(again.code(), Some("NoSuchUpload"));
}

#[tokio::test]
async fn unfinished_uploads_are_listed_and_can_be_aborted() {
    let s3 = &servers().await.s3;
    let client = client(s3);
    let prefix = unique_prefix();
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let start = client.create_multipart_upload().bucket(BUCKET).key(format!("{prefix}/{name}"));
        ids.push(start.send().await.unwrap().upload_id().unwrap().to_owned());
    }
    let part = client.upload_part().bucket(BUCKET).key(format!("{prefix}/a")).upload_id(&ids[0]);
    part.part_number(1).body(ByteStream::from_static(b"x")).send().await.unwrap();
    let list = client.list_multipart_uploads().bucket(BUCKET).prefix(&prefix);
    let first = list.clone().max_uploads(2).send().await.unwrap();
    assert_eq!(first.uploads().len(), 2);
    assert_eq!(first.is_truncated(), Some(true));
    assert!(first.uploads()[0].initiated().is_some());
    let second = list
        .clone()
        .key_marker(first.next_key_marker().unwrap())
        .upload_id_marker(first.next_upload_id_marker().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(second.uploads().len(), 1);
    assert_eq!(second.uploads()[0].upload_id(), Some(ids[2].as_str()));
    for (name, id) in ["a", "b", "c"].iter().zip(&ids) {
        let abort = client.abort_multipart_upload().bucket(BUCKET).key(format!("{prefix}/{name}"));
        abort.upload_id(id).send().await.unwrap();
    }
    assert_eq!(list.send().await.unwrap().uploads().len(), 0);
    let gone = client.abort_multipart_upload().bucket(BUCKET).key(format!("{prefix}/a"));
    assert_eq!(gone.upload_id(&ids[0]).send().await.unwrap_err().code(), Some("NoSuchUpload"));
}

#[tokio::test]
async fn objects_and_keys_outlive_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let s3 = S3::start(dir.path(), None).await.unwrap();
    s3.create_bucket("kept").unwrap();
    let put = client(&s3).put_object().bucket("kept").key("a");
    put.body(ByteStream::from_static(b"hello")).send().await.unwrap();
    let former = (s3.access_key().to_owned(), s3.secret_key().to_owned());
    drop(s3);
    let s3 = S3::start(dir.path(), None).await.unwrap();
    assert_eq!((s3.access_key().to_owned(), s3.secret_key().to_owned()), former);
    let object = client(&s3).get_object().bucket("kept").key("a").send().await.unwrap();
    assert_eq!(object.body.collect().await.unwrap().to_vec(), b"hello");
    let missing = client(&s3).get_object().bucket("none").key("a").send().await.unwrap_err();
    assert_eq!(missing.code(), Some("NoSuchBucket"));
}
