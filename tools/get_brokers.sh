#!/bin/sh
# Brings the brokers that tests and `make brokers` start: RabbitMQ and a Java as Debian packages, Kafka's jars by Maven
# in build/brokers/kafka. Quick when all is there.
set -eu
cd "$(dirname "$0")/.."
JARS=build/brokers/kafka
POM=tests/brokers/pom.xml
JAVA_AT_LEAST=17

fail() {
    printf 'error: %s\n  → %s\n' "$1" "$2" >&2
    exit 1
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

has_java() {
    for java in "${JAVA_HOME:-}/bin/java" java /usr/lib/jvm/*/bin/java; do
        version=$("$java" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p') || continue
        [ "${version:-0}" -ge "$JAVA_AT_LEAST" ] && return
    done
    return 1
}

has_rabbit() {
    command -v epmd >/dev/null || return 1
    ls /usr/lib/rabbitmq/lib/rabbitmq_server-*/sbin/rabbitmq-server >/dev/null 2>&1 || command -v rabbitmq-server >/dev/null
}

find_java_package() {
    for version in 17 21 25; do
        if apt-cache show "openjdk-$version-jre-headless" >/dev/null 2>&1; then
            echo "openjdk-$version-jre-headless"
            return
        fi
    done
    echo default-jre-headless
}

# Debian starts the service of a package when it installs it; tests start brokers of their own.
install_packages() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'as_root rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' | as_root install -m 755 /dev/stdin "$policy"
    fi
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

bring_packages() {
    wanted=$1
    [ -n "$wanted" ] || return 0
    command -v apt-get >/dev/null && as_root true 2>/dev/null ||
        fail "not installed:$wanted" "install them: Java $JAVA_AT_LEAST or newer, Maven, RabbitMQ with its stream plugin"
    echo "Installing$wanted …"
    as_root apt-get update -qq >&2 || true
    # shellcheck disable=SC2086
    install_packages $(echo "$wanted" | sed "s/ java/ $(find_java_package)/") ||
        fail "can't install$wanted" "see the message above"
    case $wanted in *rabbitmq-server*)
        if [ -d /run/systemd/system ]; then as_root systemctl disable --quiet --now rabbitmq-server || true; fi ;;
    esac
}

bring_kafka() {
    echo "Getting Kafka's jars …"
    rm -rf "$JARS" "$JARS.new"
    mvn -B -q -f "$POM" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$JARS.new" ||
        mvn -B -q -f "$POM" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$PWD/$JARS.new" ||
        fail "Maven can't get Kafka's jars" "see the message above"
    cksum <"$POM" >"$JARS.new/stamp"
    mv "$JARS.new" "$JARS"
}

jars_are_here() { [ "$(cat "$JARS/stamp" 2>/dev/null)" = "$(cksum <"$POM")" ]; }

missing=""
has_rabbit || missing="$missing rabbitmq-server"
has_java || missing="$missing java"
jars_are_here || command -v mvn >/dev/null || missing="$missing maven"
bring_packages "$missing"
jars_are_here || bring_kafka
