# What .ci/run and .ci/slow share; both read it with `source`.

cd "$(dirname "${BASH_SOURCE[0]}")/.."
export VENV=${VENV:-.venv} PYTHON=${PYTHON:-}

now="start"
step() {
    now=$*
    printf '\n=== %s (after %d min %02d s)\n' "$now" $((SECONDS / 60)) $((SECONDS % 60))
}
trap 'printf "\n=== FAILED: %s\n" "$now" >&2' ERR

# system_packages COMMAND:PACKAGES ...: report the commands that are missing. CI=true, and only
# that, installs their packages, as root. What needs a command that is missing is skipped.
system_packages() {
    local each names missing=() packages=()
    for each in "$@"; do
        PATH=$PATH:/usr/sbin command -v "${each%%:*}" > /dev/null && continue
        missing+=("${each%%:*}")
        read -ra names <<< "${each#*:}"
        packages+=("${names[@]}")
    done
    [ ${#missing[@]} != 0 ] || return 0
    if [ "${CI:-}" = true ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
        { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
            --no-install-recommends "${packages[@]}"; } > /dev/null 2>&1 && return
        echo "Cannot be installed: ${packages[*]}. Tests that need them are skipped."
    else
        echo "Not installed: ${missing[*]}. Tests that need them are skipped."
        echo "CI=true installs them, as root: ${packages[*]} (Debian's names)."
    fi
}

# suite TARGET: make TARGET. Other work on a shared machine can delay a test beyond its time limit.
# So what fails must pass five times in a row by itself, and the report names it. More than three
# failures are no accident.
suite() {
    make "$1" && return
    printf '\n=== %s: the failed tests again, five times\n' "$1"
    "$VENV/bin/python" .ci/few_failed.py
    "$VENV/bin/python" -m pytest -rA --last-failed --last-failed-no-failures none --repeat 5
}

# clean_checkout: fail if files have been left behind since the start.
before=$(git status --porcelain)
clean_checkout() {
    local after
    after=$(git status --porcelain)
    diff <(echo "$before") <(echo "$after")
}
