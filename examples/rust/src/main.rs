//! A backend of Foyer, to copy from: who may connect, what happens to the events of browsers, and how to reach browsers.
//!
//!     foyer serve --namespaces /example --connect /example=handler &
//!     cargo run
//!
//! FOYER_API is the address of Foyer's API, FOYER_TOKEN the bearer token, when Foyer asks for one. The browser's side is in
//! ../README.md.

mod payload;
pub mod foyer {
    tonic::include_proto!("foyer.v1");
}

use foyer::attach_request::Message as Say;
use foyer::attach_response::Message as Heard;
use foyer::emit_service_client::EmitServiceClient;
use foyer::handler_service_client::HandlerServiceClient;
use foyer::socket_service_client::SocketServiceClient;
use foyer::*;
use payload::{bytes, from_args, from_payload, from_struct, to_args, to_payload, to_struct, to_value};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::error::Error;
use std::process::ExitCode;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::{InterceptedService, Interceptor};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

const NAMESPACE: &str = "/example"; // in the browser: io("/example", { auth: { token: "ann's secret" } })
const ROOM: &str = "lobby";

// ---- Connect.

/// The clients of the API's services. A clone is cheap: all of them share one connection.
#[derive(Clone)]
struct Foyer {
    emits: EmitServiceClient<Api>,
    handlers: HandlerServiceClient<Api>,
    sockets: SocketServiceClient<Api>,
}
type Api = InterceptedService<Channel, Bearer>;

fn connect() -> Result<Foyer, Box<dyn Error>> {
    let address = std::env::var("FOYER_API").unwrap_or("127.0.0.1:50051".to_string());
    let channel = Endpoint::from_shared(format!("http://{address}"))? // https:// when Foyer has --api-cert
        .connect_timeout(Duration::from_secs(5))
        // A network that dies without a word is noticed after 20 s. Foyer takes no pings that come faster than every 5 s.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(10))
        .connect_lazy();
    let bearer = match std::env::var("FOYER_TOKEN") {
        Ok(token) if !token.is_empty() => Some(format!("Bearer {token}").parse()?),
        _ => None,
    };
    let api = InterceptedService::new(channel, Bearer(bearer));
    Ok(Foyer {
        emits: EmitServiceClient::new(api.clone()),
        handlers: HandlerServiceClient::new(api.clone()),
        sockets: SocketServiceClient::new(api),
    })
}

/// Every call carries the token.
#[derive(Clone)]
struct Bearer(Option<MetadataValue<Ascii>>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(bearer) = &self.0 {
            request.metadata_mut().insert("authorization", bearer.clone());
        }
        Ok(request)
    }
}

/// gRPC sets no deadline by itself: a call without one can wait for ever.
fn timed<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(Duration::from_secs(10));
    request
}

// ---- Attach a handler.

/// One socket.
struct Person {
    user: String,
    last: oneshot::Receiver<()>, // ends once the last of its events so far is answered
}

impl Person {
    fn new(user: String) -> Self {
        Self { user, last: oneshot::channel().1 }
    }
}

/// One attachment: it registers, and serves until the stream ends. With Ok it has ended as it should: we have left, or Foyer is
/// going down.
async fn attach(foyer: &Foyer, mut stop: watch::Receiver<bool>) -> Result<(), Status> {
    // A send waits while the channel is full, which it is while Foyer does not read: then we do not read either.
    let (say, said) = mpsc::channel(64);
    send(
        &say,
        Say::Register(Register {
            namespaces: vec![NAMESPACE.to_string()],
            group: "example".to_string(), // several processes of one group share the sockets
            decide_connects: true,
            max_in_flight: 64, // so many events are answered at once, and no more
            ..Default::default()
        }),
    )
    .await;
    let mut stream = foyer.handlers.clone().attach(ReceiverStream::new(said)).await?.into_inner();
    // Who is here. It starts empty each time: Foyer hands over the sockets that it still has.
    let mut people = HashMap::new();
    let mut leaving = false;
    loop {
        let heard = tokio::select! {
            _ = stop.wait_for(|stop| *stop), if !leaving => {
                leaving = true; // no new work from now on; once the last event is answered, the stream ends
                send(&say, Say::Drain(Drain {})).await;
                continue;
            }
            heard = stream.message() => match heard? {
                Some(heard) => heard.message,
                None => return Ok(()),
            },
        };
        match heard {
            Some(Heard::Registered(to)) => println!("attached to node {}", to.node_id),
            Some(Heard::Connect(connect)) => send(&say, Say::ConnectReply(decide(connect))).await,
            Some(Heard::Connected(Connected { socket: Some(socket), .. })) => {
                println!("{} connected", socket.user_id);
                people.insert(socket.id, Person::new(socket.user_id));
            }
            Some(Heard::Assigned(assigned)) => {
                people.extend(assigned.sockets.into_iter().map(|socket| (socket.id, Person::new(socket.user_id))));
            }
            Some(Heard::Disconnected(Disconnected { socket: Some(socket), detail, .. })) => {
                println!("{} disconnected: {detail}", socket.user_id);
                people.remove(&socket.id);
            }
            Some(Heard::Event(event)) => {
                let sender = event.socket.unwrap_or_default().id;
                let Some(person) = people.get_mut(&sender) else { continue }; // Foyer has told of it before
                // The events of one socket are answered one after another, in their order, and those of different sockets at
                // the same time. max_in_flight bounds how many tasks that makes.
                let (done, last) = oneshot::channel::<()>();
                let before = std::mem::replace(&mut person.last, last);
                let (foyer, say, user) = (foyer.clone(), say.clone(), person.user.clone());
                tokio::spawn(async move {
                    let _ = before.await;
                    let args = answer(&foyer, &sender, &user, event.payload.unwrap_or_default()).await;
                    // Every event gets a reply, also one that wants no acknowledgement: it makes room for the next.
                    send(&say, Say::EventReply(EventReply { call_id: event.call_id, args: Some(args) })).await;
                    drop(done);
                });
            }
            _ => {} // of a newer version, or what we did not ask for
        }
    }
}

/// The stream may have ended meanwhile; then nobody waits for this any more.
async fn send(say: &mpsc::Sender<AttachRequest>, message: Say) {
    let _ = say.send(AttachRequest { message: Some(message) }).await;
}

// ---- Decide who may connect.

/// Here a session would be looked up, or a JWT be checked.
fn user_of(token: &str) -> Option<&'static str> {
    match token {
        "ann's secret" => Some("ann"),
        "bob's secret" => Some("bob"),
        _ => None,
    }
}

fn decide(connect: Connect) -> ConnectReply {
    let auth = connect.socket.and_then(|socket| socket.handshake).and_then(|handshake| handshake.auth);
    let auth = auth.map(from_struct).unwrap_or_default();
    let decision = match auth["token"].as_str().and_then(user_of) {
        Some(user) => connect_reply::Decision::Accept(Accept {
            rooms: vec![ROOM.to_string()], // it is in there before it hears that it is connected
            user_id: user.to_string(),
            data: Some(to_struct(json!({"name": user.to_uppercase()}))), // ours to use; the browser does not see it
        }),
        None => {
            println!("turned a client away: no such token");
            connect_reply::Decision::Reject(Reject {
                message: "not authorized".to_string(), // the browser has these two in its connect_error
                data: Some(to_value(json!({"code": 401, "hint": "log in first"}))),
                retry: false,
            })
        }
    };
    ConnectReply { call_id: connect.call_id, decision: Some(decision) }
}

// ---- Answer events.

async fn answer(foyer: &Foyer, sender: &str, user: &str, payload: Payload) -> Args {
    let args = from_payload(&payload);
    // Browsers send whatever they like: what does not look as it should is an unknown event.
    let done = match (payload.event.as_str(), args.as_slice()) {
        ("greet", _) => Ok(to_args(|_| json!([format!("hello, {user}")]))),
        ("say", [Value::String(text), ..]) => say(foyer, sender, user, text).await,
        ("ask", [Value::String(question), ..]) => ask(foyer, sender, question).await,
        ("photo", [Value::String(name), file, ..]) => {
            photo(foyer, sender, name, bytes(file, &payload.attachments).unwrap_or_default()).await
        }
        ("who", _) => who(foyer).await,
        ("oops", _) => oops(foyer).await,
        _ => Ok(to_args(|_| json!([{"error": "no such event"}]))),
    };
    done.unwrap_or_else(|status| {
        println!("{}: {}", payload.event, explain(&status));
        to_args(|_| json!([{"error": status.message()}]))
    })
}

/// The others in the room.
fn others(sender: &str) -> Option<Target> {
    Some(Target {
        namespace: NAMESPACE.to_string(),
        rooms: vec![ROOM.to_string()],
        except_rooms: vec![sender.to_string()], // each socket is also alone in a room that has its id as the name
        ..Default::default()
    })
}

/// Emit to a room.
async fn say(foyer: &Foyer, sender: &str, user: &str, text: &str) -> Result<Args, Status> {
    let emit = EmitRequest {
        target: others(sender),
        payload: Some(to_payload("said", |_| json!([user, text]))),
        ..Default::default()
    };
    let told = foyer.emits.clone().emit(timed(emit)).await?.into_inner();
    Ok(to_args(|_| json!([{"told": told.matched()}])))
}

/// Emit to a room, and wait for the acknowledgement of each client.
async fn ask(foyer: &Foyer, sender: &str, question: &str) -> Result<Args, Status> {
    let emit = EmitWithAckRequest {
        target: others(sender),
        payload: Some(to_payload("question", |_| json!([question]))),
        timeout: Some(prost_types::Duration { seconds: 3, nanos: 0 }),
        ..Default::default()
    };
    let got = foyer.emits.clone().emit_with_ack(timed(emit)).await?.into_inner();
    let mut answers = Vec::new();
    let mut silent = 0;
    for outcome in got.outcomes {
        match outcome.outcome {
            Some(ack_outcome::Outcome::Args(args)) => answers.push(from_args(&args).into_iter().next()),
            _ => silent += 1, // it took too long, or went away; see AckFailure
        }
    }
    Ok(to_args(|_| json!([{"answers": answers, "silent": silent}])))
}

/// Take a binary value, and pass it on.
async fn photo(foyer: &Foyer, sender: &str, name: &str, photo: &[u8]) -> Result<Args, Status> {
    let emit = EmitRequest {
        target: others(sender),
        payload: Some(to_payload("photo", |binary| json!([name, binary(photo)]))),
        ..Default::default()
    };
    foyer.emits.clone().emit(timed(emit)).await?;
    let start = &photo[..photo.len().min(4)];
    Ok(to_args(|binary| json!([{"size": photo.len(), "start": binary(start)}])))
}

/// List sockets, page by page.
async fn who(foyer: &Foyer) -> Result<Args, Status> {
    let mut list = ListSocketsRequest {
        target: Some(Target { namespace: NAMESPACE.to_string(), rooms: vec![ROOM.to_string()], ..Default::default() }),
        view: SocketView::Full as i32, // with data
        page_size: 100,
        ..Default::default()
    };
    let mut people = Vec::new();
    loop {
        let page = foyer.sockets.clone().list_sockets(timed(list.clone())).await?.into_inner();
        for socket in page.sockets {
            let data = from_struct(socket.data.unwrap_or_default());
            people.push(json!({"user": socket.user_id, "rooms": socket.rooms, "name": data["name"]}));
        }
        if page.next_page_token.is_empty() {
            return Ok(to_args(|_| json!([people])));
        }
        list.page_token = page.next_page_token;
    }
}

/// A mistake, to see what an error tells: a room must have a name.
async fn oops(foyer: &Foyer) -> Result<Args, Status> {
    let emit = EmitRequest {
        target: Some(Target { namespace: NAMESPACE.to_string(), rooms: vec![String::new()], ..Default::default() }),
        payload: Some(to_payload("never", |_| json!([]))),
        ..Default::default()
    };
    foyer.emits.clone().emit(timed(emit)).await?;
    Ok(Args::default())
}

/// What an error says: its code, the reason (a word of foyer.v1.ErrorReason, to be tested for), the fields, and the text.
fn explain(status: &Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map(|info| info.reason.as_str()).unwrap_or("no reason");
    let fields: Vec<_> =
        details.bad_request().iter().flat_map(|bad| &bad.field_violations).map(|v| v.field.as_str()).collect();
    format!("{:?}, {reason}, fields {fields:?}: {}", status.code(), status.message())
}

// ---- Come back when the stream ends, and leave when asked to.

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Attaches again and again, with pauses that grow. Ok once we were asked to stop; an error is one that no waiting mends.
async fn run(foyer: &Foyer, mut stop: watch::Receiver<bool>) -> Result<(), Status> {
    let mut pause = FIRST_PAUSE;
    loop {
        let began = Instant::now();
        let ended = attach(foyer, stop.clone()).await;
        if *stop.borrow() {
            return Ok(());
        }
        if began.elapsed() > LONGEST_PAUSE {
            pause = FIRST_PAUSE; // it had worked
        }
        // Not all at the same moment: many backends have lost the same Foyer.
        let wait = pause.mul_f64(0.5 + fastrand::f64() / 2.0);
        match ended {
            Err(status)
                if matches!(status.code(), Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument) =>
            {
                return Err(status);
            }
            Err(status) => println!("detached, again in {wait:.1?}: {}", explain(&status)),
            Ok(()) => println!("detached, again in {wait:.1?}"),
        }
        tokio::select! {
            _ = tokio::time::sleep(wait) => pause = LONGEST_PAUSE.min(pause * 2),
            _ = stop.wait_for(|stop| *stop) => return Ok(()),
        }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let done = async {
        let foyer = connect()?;
        let (stop, stopped) = watch::channel(false);
        let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut running = std::pin::pin!(run(&foyer, stopped));
        tokio::select! {
            ended = &mut running => return Ok(ended?),
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        stop.send_replace(true);
        // The process that waits for us to end does not wait for ever.
        tokio::time::timeout(Duration::from_secs(10), running).await??;
        Ok::<(), Box<dyn Error>>(())
    };
    match done.await {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            match err.downcast_ref::<Status>() {
                Some(status) => eprintln!("{}", explain(status)),
                None => eprintln!("{err}"),
            }
            ExitCode::FAILURE
        }
    }
}
