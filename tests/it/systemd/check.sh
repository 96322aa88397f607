# Runs inside the container as root. Says "good: PROMISE" for each that holds.

check() {
    promise=$1
    shift
    tries=100
    until "$@" >/tmp/last 2>&1; do
        tries=$((tries - 1))
        if [ "$tries" = 0 ]; then
            echo "bad: $promise: $(cat /tmp/last)"
            return
        fi
        sleep 0.1
    done
    echo "good: $promise"
}
