# What is tried of the units, after check.sh.

show() { systemctl show tidegate.service --value -p "$1"; }
is() { [ "$(show "$1")" = "$2" ]; }
logged() { journalctl -u tidegate --no-pager | grep -q "$1"; }
get() { curl -s -m 10 -H 'host: hello.localhost' "http://127.0.0.1$1"; }
serves_hello() { [ "$(get /)" = 'hello world' ]; }

systemctl start tidegate-http.socket tidegate-https.socket tidegate-h3.socket
check 'the service is not there before the first connection' is ActiveState inactive
check 'a connection to the socket starts it and is served' serves_hello
https() { [ "$(curl -s -m 10 --cacert /var/lib/tidegate/ca/root.crt https://hello.localhost/)" = 'hello world' ]; }
check 'https is served on the socket of that name' https
http3() {
    logged 'listening for HTTP/3' && curl -sI -m 10 --cacert /var/lib/tidegate/ca/root.crt https://hello.localhost/ | grep -qi 'alt-svc: h3=":443"'
}
check 'HTTP/3 is served on the socket of that name' http3
check 'it says that it is ready and what it serves' is StatusText 'serving 1 apps, generation 1'
own_user() { [ "$(stat -c %U "/proc/$(show MainPID)")" = tidegate ]; }
check 'it runs as a user of its own' own_user

systemctl reload tidegate.service
check 'a reload is asked for by systemctl and answered in the log' logged 'nothing changed'

cp /etc/tidegate/api.wasm /etc/tidegate/apps/hello.wasm.new
mv /etc/tidegate/apps/hello.wasm.new /etc/tidegate/apps/hello.wasm
serves_other() { [ -n "$(get /)" ] && ! serves_hello; }
check 'a new component is compiled and served under the hardening' serves_other
check 'the status names the new generation' is StatusText 'serving 1 apps, generation 2'
directories() {
    [ -s /var/lib/private/tidegate/ca/root.pem ] &&
        ls /var/lib/private/tidegate/cache/*.cwasm && grep -q access /var/log/private/tidegate/*.log
}
check 'its state and its log are in its own directories' directories

systemctl restart --no-block tidegate.service
answered() { get / >/dev/null; }
check 'a connection during a restart waits and is served' answered

check 'the restart is over' is ActiveState active

# An upgrade, while somebody asks all the time.
touch /asking
while [ -e /asking ]; do get / | grep -q . || touch /not-answered; done &
before=$(show MainPID)
log=$(journalctl -u tidegate --no-pager | wc -l)
cp /usr/bin/tidegate /usr/bin/tidegate.new
mv /usr/bin/tidegate.new /usr/bin/tidegate
systemctl kill --signal=USR2 --kill-whom=main tidegate.service
replaced() { is ActiveState active && [ "$(show MainPID)" != 0 ] && [ "$(show MainPID)" != "$before" ]; }
check 'after an upgrade the main process is the new one, and active' replaced
gone() { [ ! -e "/proc/$before" ]; }
check 'the old process finishes and ends' gone
upgraded=$(show MainPID)
from_the_new_file() { [ "$(readlink "/proc/$upgraded/exe")" = /usr/bin/tidegate ]; }
check 'the new process is of the new file' from_the_new_file
check 'the new process says what it serves' is StatusText 'serving 1 apps, generation 1'
https_other() { [ -n "$(curl -s -m 10 --cacert /var/lib/tidegate/ca/root.crt https://hello.localhost/)" ]; }
check 'after an upgrade https is served on the same socket' https_other
# Longer than the watchdog waits: it hears from the new process, or ends it.
sleep 5
rm /asking
wait
kept() { [ "$(show MainPID)" = "$upgraded" ] && is ActiveState active && is NRestarts 0; }
check 'the watchdog hears from the new process' kept
all_answered() { [ ! -e /not-answered ]; }
check 'no request fails at an upgrade' all_answered

# A client without a request keeps the old process for a while.
python3 -c 'import socket, time; s = socket.create_connection(("127.0.0.1", 80)); time.sleep(60)' &
rests=$!
before=$upgraded
sleep 0.3
systemctl kill --signal=USR2 --kill-whom=main tidegate.service
check 'another upgrade' replaced
upgraded=$(show MainPID)
kill -KILL "$upgraded"
replaced_again() { replaced && [ "$(show MainPID)" != "$upgraded" ] && serves_other; }
check 'a new process that is killed while the old one drains is started again' replaced_again
kill "$rests"

# The watchdog, in microseconds since the machine was booted.
now() { awk '{ printf "%.0f", $1 * 1000000 }' /proc/uptime; }
again() { is ActiveState active && [ "$(show MainPID)" != "$before" ] && [ "$(show MainPID)" != 0 ]; }
for try in 1 2 3; do
    before=$(show MainPID)
    # Between two ticks, of which the last one counts.
    sleep 0.6
    stopped=$(now)
    kill -STOP "$before"
    check 'a process that is stuck is started again by the watchdog' again
    took=$(($(show ActiveEnterTimestampMonotonic) - stopped))
    echo "started again $((took / 1000)) ms after it was stopped, with WatchdogSec=2"
    [ "$took" -le 3000000 ] && break
done
in_time() { [ "$took" -le 3000000 ]; }
check 'within WatchdogSec and one second' in_time
answered

systemctl stop tidegate.service tidegate-http.socket tidegate-https.socket tidegate-h3.socket
stopped_well() { is Result success && is ExecMainStatus 0; }
check 'a stop ends with exit code 0' stopped_well

echo 'nonsense' >>/etc/tidegate/config.toml
systemctl start tidegate.service
refused() { is ExecMainStatus 78 && is ActiveState failed; }
check 'a wrong manifest ends with exit code 78 and is not tried again' refused

journalctl -u tidegate --no-pager | tail -n 60
