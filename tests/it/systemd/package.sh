# What is tried of the package, after check.sh.

get() { curl -s -m 10 -H "host: $1" "http://127.0.0.1/"; }

export DEBIAN_FRONTEND=noninteractive
# The image of a container forbids packages to start what they bring; the machine that is tried does not.
rm -f /usr/sbin/policy-rc.d
ip link set lo up
install_it() { dpkg --force-depends -i /tidegate.deb; }
check 'it installs' install_it
runs() { systemctl is-active tidegate && systemctl is-enabled tidegate; }
check 'the service runs, and is there after a boot' runs
told() { get example.com | grep -q '/etc/tidegate/config.toml'; }
check 'who comes is told where the manifest is' told
cp /hello.wasm /etc/tidegate/apps/hello.wasm.new
mv /etc/tidegate/apps/hello.wasm.new /etc/tidegate/apps/hello.wasm
dropped() { [ "$(get hello.apps.localhost)" = 'hello world' ]; }
check 'a component that is dropped into the folder is served' dropped
own() { cd / && tidegate check && tidegate trust | grep -q 'BEGIN CERTIFICATE'; }
check 'its own commands find the manifest' own
pages() { ls /usr/share/man/man1/tidegate.1.gz /usr/share/man/man1/tidegate-run.1.gz; }
check 'there is a man page for the program and its commands' pages
completes() {
    bash -c '. /usr/share/bash-completion/completions/tidegate; COMP_WORDS=(tidegate insp) COMP_CWORD=1
        _tidegate tidegate insp tidegate; [ "${COMPREPLY[0]}" = inspect ]'
}
check 'bash completes its commands' completes
echo '# mine' >>/etc/tidegate/config.toml
main() { systemctl show -P MainPID tidegate; }
before=$(main)
while [ ! -e /enough ]; do
    [ "$(get hello.apps.localhost)" = 'hello world' ] || echo one >>/lost
done &
outlives() { install_it && grep -q '# mine' /etc/tidegate/config.toml && systemctl is-active tidegate && told; }
check 'an operator'"'"'s manifest outlives the next version' outlives
touch /enough
wait
took_over() { [ "$(main)" != "$before" ] && [ ! -e /lost ]; }
check 'the next version takes over, and no request is lost' took_over
goes() { dpkg -r tidegate && ! systemctl is-active tidegate && [ -e /etc/tidegate/config.toml ] && [ ! -e /usr/bin/tidegate ]; }
check 'it goes, and its manifest stays' goes
purged() { dpkg -P tidegate && [ ! -e /etc/tidegate/config.toml ]; }
check 'it is purged' purged
