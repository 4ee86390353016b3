//! Objects: what does not fit in a record.

use std::time::Duration;

use async_nats::jetstream::{
    ErrorCode,
    object_store::{self, ObjectStore},
    stream::StorageType,
};
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    time::timeout,
};

use super::{Keep, Store, Trouble, chain, is_full, other};

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

    /// Stores an object.
    ///
    /// # Errors
    /// What is in the way.
    pub async fn put_object(&self, bucket: &str, name: &str, bytes: &Bytes) -> Result<(), Trouble> {
        let objects = self.objects(bucket).await?;
        let mut bytes = &bytes[..];
        let denied = format!("$O.{bucket}.");
        let put = self.unless_denied_for(OBJECT, &denied, objects.put(name, &mut bytes)).await?;
        put.map(drop).map_err(|error| not_put(&error))
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

/// Why an object was not stored. What JetStream said is in a text there.
fn not_put(error: &object_store::PutError) -> Trouble {
    let why = chain(error);
    let code = why.split("error code ").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok());
    match code {
        Some(code) if is_full(ErrorCode(code)) => Trouble::Full(why),
        None if why.contains("timed out") => Trouble::Late,
        Some(_) | None => Trouble::Other(why),
    }
}

/// How long an object may take to be stored or read.
const OBJECT: Duration = Duration::from_secs(60);
