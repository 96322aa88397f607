use std::future::poll_fn;
use std::net::UdpSocket;

use quinn::{Runtime, TokioRuntime};

use super::*;

const FIRST: u64 = 1;

/// A packet with a short header, of a connection of the process with this key, or of a client's choice.
fn packet(key: Option<u64>, text: &str) -> Vec<u8> {
    let id = match key {
        Some(key) => HashedConnectionIdGenerator::from_key(key).generate_cid().to_vec(),
        None => vec![7; ID],
    };
    [&[0x40], &id[..], text.as_bytes()].concat()
}

/// The same with a long header.
fn long(key: u64, text: &str) -> Vec<u8> {
    let id = HashedConnectionIdGenerator::from_key(key).generate_cid();
    [&[0xe0, 0, 0, 0, 1, ID as u8], &id[..], text.as_bytes()].concat()
}

async fn receive(datagrams: &Datagrams) -> Vec<(Vec<u8>, RecvMeta)> {
    let (mut a, mut b) = (vec![0; 4096], vec![0; 4096]);
    let mut metas = [RecvMeta::default(); 2];
    let mut buffers = [IoSliceMut::new(&mut a), IoSliceMut::new(&mut b)];
    let count = poll_fn(|cx| datagrams.poll_recv(cx, &mut buffers, &mut metas)).await.unwrap();
    let all = buffers.iter().zip(metas).take(count);
    all.map(|(buffer, meta)| (buffer[..meta.len].to_vec(), meta)).collect()
}

/// Two processes with one socket, of which the second has taken over, and a client.
fn two() -> (Datagrams, Datagrams, Arc<Shared>, UdpSocket) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let same = socket.try_clone().unwrap();
    let first = Arc::new(Shared::default());
    let way = first.open_way().unwrap();
    let keys = Keys { ids: FIRST, resets: [0; 32] };
    let second = Arc::new(Shared::new(Some((keys, way))));
    let wrap = |socket| TokioRuntime.wrap_udp_socket(socket).unwrap();
    let old = Datagrams::new(wrap(socket), Arc::clone(&first));
    (old, Datagrams::new(wrap(same), second), first, client)
}

#[tokio::test]
async fn packets_go_to_the_process_whose_connection_they_are_of() {
    let (old, new, shared, client) = two();
    shared.leave().unwrap();
    for (number, theirs) in [packet(Some(FIRST), "a"), long(FIRST, "b")].into_iter().enumerate() {
        let ours = [packet(Some(2), "c"), packet(None, "d"), long(2, "e")][number].clone();
        client.send(&theirs).unwrap();
        client.send(&ours).unwrap();

        let mut read = Vec::new();
        while read.iter().all(|(bytes, _): &(Vec<u8>, RecvMeta)| bytes.is_empty()) {
            read.extend(receive(&new).await);
        }
        read.retain(|(bytes, _)| !bytes.is_empty());
        assert_eq!(read.len(), 1);
        assert_eq!(read[0].0, ours);

        let passed = receive(&old).await;
        assert_eq!(passed.len(), 1);
        let (bytes, meta) = &passed[0];
        assert_eq!((bytes, meta.addr), (&theirs, client.local_addr().unwrap()));
        assert_eq!(meta.dst_ip, read[0].1.dst_ip);
    }
}

#[tokio::test]
async fn of_several_packets_in_one_buffer_each_goes_its_way() {
    let (_old, new, ..) = two();
    let all = [
        packet(Some(2), "1"),
        packet(Some(FIRST), "2"),
        packet(None, "3"),
        packet(Some(FIRST), ""),
    ];
    let mut buffer = all.concat();
    let mut meta = RecvMeta { len: buffer.len(), stride: all[0].len(), ..RecvMeta::default() };
    new.shared.before.as_ref().unwrap().sort_out(&mut buffer, &mut meta);
    assert_eq!(buffer[..meta.len], [&all[0][..], &all[2]].concat());
}

#[tokio::test]
async fn without_a_process_that_reads_the_socket_it_is_read_again() {
    let (old, new, shared, client) = two();
    shared.leave().unwrap();
    drop(new);
    client.send(&packet(Some(FIRST), "back")).unwrap();
    assert_eq!(receive(&old).await.len(), 1);
}

#[tokio::test]
async fn one_who_waits_at_the_socket_is_woken_to_read_the_way() {
    let (old, new, shared, client) = two();
    let waits = tokio::spawn(async move { receive(&old).await });
    tokio::task::yield_now().await;
    shared.leave().unwrap();
    client.send(&packet(Some(FIRST), "on")).unwrap();
    let reads = tokio::spawn(async move {
        loop {
            receive(&new).await;
        }
    });
    assert_eq!(waits.await.unwrap().len(), 1);
    reads.abort();
}

#[test]
fn the_longest_head_has_room() {
    let ip: IpAddr = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap();
    let from = std::net::SocketAddrV6::new(
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().unwrap(),
        65535,
        0,
        u32::MAX,
    );
    let head = Head { from: from.into(), to: Some(ip), ecn: Some(3) };
    assert!(serde_json::to_vec(&head).unwrap().len() < HEAD);
    let bytes = head.to_bytes().unwrap();
    assert_eq!(serde_json::from_slice::<Head>(&bytes).unwrap(), head);
}
