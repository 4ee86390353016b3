//! Objects: what does not fit in a record.

use std::time::Duration;

use async_nats::{
    header::NATS_ROLLUP,
    jetstream::{
        message::PublishMessage,
        object_store::{self, ObjectStore},
        stream::StorageType,
    },
};
use bytes::Bytes;
use data_encoding::BASE64URL;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{Keep, Store, Trouble, other};

impl Store {
    /// Creates the object store that is to be there.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn keep_objects(&self, keep: &Keep) -> Result<(), Trouble> {
        if self.context.get_object_store(&keep.name).await.is_ok() {
            return Ok(());
        }
        let config = object_store::Config {
            bucket: keep.name.clone(),
            max_age: keep.age,
            max_bytes: keep.bytes,
            storage: StorageType::File,
            num_replicas: keep.replicas.unwrap_or_else(|| self.replicas()),
            ..object_store::Config::default()
        };
        let subject = format!("$JS.API.STREAM.CREATE.OBJ_{}", keep.name);
        let kept = self.context.create_object_store(config);
        self.unless_denied(&subject, kept).await?.map(drop).map_err(other)
    }

    /// Stores an object that is new. Of one that can't be stored whole nothing is left.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn put_object(&self, bucket: &str, name: &str, bytes: &Bytes) -> Result<(), Trouble> {
        let id = uuid::Uuid::new_v4().simple().to_string();
        let chunks = format!("$O.{bucket}.C.{id}");
        let put = timeout(OBJECT, self.put_parts(bucket, (name, &id), &chunks, bytes)).await;
        let put = put.unwrap_or(Err(Trouble::Late));
        if put.is_err() {
            // Its parts would take the room of others for as long as jobs are kept.
            self.remove(&format!("OBJ_{bucket}"), &chunks).await.ok();
        }
        put
    }

    async fn put_parts(
        &self,
        bucket: &str,
        (name, id): (&str, &str),
        subject: &str,
        bytes: &Bytes,
    ) -> Result<(), Trouble> {
        let mut rest = bytes.clone();
        let mut chunks = 0;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            self.put(subject, chunk).await?;
            chunks += 1;
        }
        let digest = ring::digest::digest(&ring::digest::SHA256, bytes);
        let info = serde_json::json!({
            "name": name,
            "bucket": bucket,
            "nuid": id,
            "size": bytes.len(),
            "chunks": chunks,
            "digest": format!("SHA-256={}", BASE64URL.encode(digest.as_ref())),
            "options": { "max_chunk_size": CHUNK },
        });
        let message = PublishMessage::build().header(NATS_ROLLUP, "sub");
        let message = message.payload(info.to_string().into());
        let subject = format!("$O.{bucket}.M.{}", BASE64URL.encode(name.as_bytes()));
        self.store(&subject, message).await.map(drop)
    }

    /// Reads an object of no more than `most` bytes from the first of `buckets` that has it; `None` when none has.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn find_object(
        &self,
        buckets: &[String],
        name: &str,
        most: usize,
    ) -> Result<Option<Bytes>, Trouble> {
        for bucket in buckets {
            if let Some(body) = self.get_object(bucket, name, most).await? {
                return Ok(Some(body));
            }
        }
        Ok(None)
    }

    /// Reads an object of no more than `most` bytes; `None` when it is not there.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn get_object(&self, bucket: &str, name: &str, most: usize) -> Result<Option<Bytes>, Trouble> {
        let objects = self.objects(bucket).await?;
        let asked = format!("$JS.API.CONSUMER.CREATE.OBJ_{bucket}");
        let mut object = match self.unless_denied(&asked, objects.get(name)).await? {
            Ok(object) => object,
            Err(error) if error.kind() == object_store::GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(other(error)),
        };
        if object.info().size > most {
            return Err(Trouble::Other(format!("the object {name} has {} bytes", object.info().size)));
        }
        let mut bytes = Vec::with_capacity(object.info().size);
        match timeout(OBJECT, object.read_to_end(&mut bytes)).await {
            Ok(Ok(_)) => Ok(Some(bytes.into())),
            Ok(Err(error)) => Err(Trouble::Other(error.to_string())),
            Err(_) => Err(Trouble::Late),
        }
    }

    /// Opens an object, to be read a part at a time; `None` when no bucket of `buckets` has it.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn open_object(
        &self,
        buckets: &[String],
        name: &str,
    ) -> Result<Option<Box<dyn AsyncRead + Send + Unpin>>, Trouble> {
        for bucket in buckets {
            let objects = self.objects(bucket).await?;
            let asked = format!("$JS.API.CONSUMER.CREATE.OBJ_{bucket}");
            match self.unless_denied(&asked, objects.get(name)).await? {
                Ok(object) => return Ok(Some(Box::new(object))),
                Err(error) if error.kind() == object_store::GetErrorKind::NotFound => {}
                Err(error) => return Err(other(error)),
            }
        }
        Ok(None)
    }

    /// Forgets an object. One that is forgotten already, or that can't be now, goes when it is old.
    pub async fn remove_object(&self, bucket: &str, name: &str) {
        if let Ok(objects) = self.objects(bucket).await {
            objects.delete(name).await.ok();
        }
    }

    async fn objects(&self, bucket: &str) -> Result<ObjectStore, Trouble> {
        let asked = format!("$JS.API.STREAM.INFO.OBJ_{bucket}");
        let objects = self.unless_denied(&asked, self.context.get_object_store(bucket)).await?;
        objects.map_err(|_| self.absent())
    }
}

/// Bytes of a part of an object, as other programs have it (ADR-20).
const CHUNK: usize = 128 * 1024;
/// How long an object may take to be stored or read.
const OBJECT: Duration = Duration::from_secs(60);
