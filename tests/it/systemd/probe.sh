# Runs inside the container as root. Says "good: PROMISE" for each that holds.

check() {
    promise=$1
    shift
    tries=100
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            echo "bad: $promise"
            return
        fi
        sleep 0.1
    done
    echo "good: $promise"
}
show() { systemctl show tidegate.service --value -p "$1"; }
is() { [ "$(show "$1")" = "$2" ]; }
logged() { journalctl -u tidegate --no-pager | grep -q "$1"; }
get() { curl -s -m 10 -H 'host: hello.localhost' "http://127.0.0.1$1"; }
serves_hello() { [ "$(get /)" = 'hello world' ]; }

systemctl start tidegate-http.socket tidegate-https.socket
check 'the service is not there before the first connection' is ActiveState inactive
check 'a connection to the socket starts it and is served' serves_hello
https() { [ "$(curl -s -m 10 --cacert /var/lib/tidegate/ca/root.crt https://hello.localhost/)" = 'hello world' ]; }
check 'https is served on the socket of that name' https
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
before=$(show MainPID)
kill -STOP "$before"
again() { is ActiveState active && [ "$(show MainPID)" != "$before" ] && [ "$(show NRestarts)" -ge 1 ]; }
check 'a process that is stuck is started again by the watchdog' again
answered

systemctl stop tidegate.service tidegate-http.socket tidegate-https.socket
stopped_well() { is Result success && is ExecMainStatus 0; }
check 'a stop ends with exit code 0' stopped_well

echo 'nonsense' >>/etc/tidegate/config.toml
systemctl start tidegate.service
refused() { is ExecMainStatus 78 && is ActiveState failed; }
check 'a wrong manifest ends with exit code 78 and is not tried again' refused

journalctl -u tidegate --no-pager | tail -n 60
