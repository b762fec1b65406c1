#!/bin/sh
# Installs the named Debian packages that are missing, without starting any of
# their services. Does nothing but say so unless run as root where apt-get is.
set -eu

missing=""
for package in "$@"; do
    case "$package" in
        rabbitmq-server) test -x /usr/lib/rabbitmq/bin/rabbitmq-server && continue ;;
        chromium) test -x /usr/bin/chromium && continue ;;
    esac
    command -v "$package" >/dev/null 2>&1 || missing="$missing $package"
done
test -n "$missing" || exit 0

if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "not installed, and not installable from here:$missing (Debian, as root: apt-get install$missing)"
    exit 0
fi

# Package scripts ask this file whether they may start a service; one that is
# there already is the administrator's and stays.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi

export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1 RUNLEVEL=1
log=$(mktemp)
echo "installing Debian packages:$missing"
install() {
    # shellcheck disable=SC2086 # the list is split on purpose
    apt-get -y -q --no-install-recommends --no-upgrade -o DPkg::Lock::Timeout=300 install $missing >"$log" 2>&1
}
if install || { apt-get -q -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 && install; }; then
    rm -f "$log"
else
    tail -n 20 "$log" >&2
    echo "could not install$missing; going on without" >&2
fi
