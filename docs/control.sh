#!/bin/sh
# Launches a guest through the control socket, reads statistics, halves the pool under load, freezes it, thaws it and shuts the
# guest down, with curl alone. The end-to-end test api::the_script_in_the_docs_works runs it in just this form.
#
#   vtmem run --api-socket vm.sock &
#   docs/control.sh vm.sock KERNEL INITRD DISK CMDLINE
set -eu
socket=$1 kernel=$2 initrd=$3 disk=$4 cmdline=$5

# api METHOD RESOURCE [BODY]: a request; the answer goes to standard output, an error ends the script.
api() {
    curl --silent --show-error --fail-with-body --unix-socket "$socket" -X "$1" "http://vm$2" ${3:+--json "$3"}
}

# metric NAME: its value.
metric() {
    api GET /metrics | sed -n "s/^$1 //p"
}

api PUT /machine '{"memory": "96M", "cpus": 1}'
api PUT /boot-source "{\"kernel\": \"$kernel\", \"initrd\": \"$initrd\", \"cmdline\": \"$cmdline\"}"
api PUT /disks/data "{\"path\": \"$disk\", \"cache\": \"none\"}"
api PUT /tmem '{"size": "32M", "admission": "always"}'
api PUT /actions '{"action": "start"}'
echo "started: $(api GET /vm)"

# The guest reads more than it has memory for; what it drops goes to the pool, which fills.
until [ "$(metric vtmem_pool_used_bytes)" -gt $((28 << 20)) ]; do sleep 1; done
echo "full: $(metric vtmem_pool_used_bytes) bytes of $(metric vtmem_pool_size_bytes)"

echo "halved in $(curl --silent --fail-with-body --unix-socket "$socket" -X PATCH http://vm/tmem --json '{"size": "16M"}' \
    -o /dev/null -w '%{time_total}') s"
sleep 1
used=$(metric vtmem_pool_used_bytes)
[ "$used" -le $((16 << 20)) ] || { echo "the pool still has $used bytes" >&2; exit 1; }
echo "now: $used bytes of $(metric vtmem_pool_size_bytes)"

# Frozen: every put is refused, and counted.
api PATCH /tmem '{"frozen": true}' >/dev/null
refused=$(metric vtmem_tmem_puts_refused_total)
until [ "$(metric vtmem_tmem_puts_refused_total)" -gt "$refused" ]; do sleep 1; done
echo "frozen: puts are refused"
api PATCH /tmem '{"frozen": false}' >/dev/null
stored=$(metric vtmem_tmem_puts_total)
until [ "$(metric vtmem_tmem_puts_total)" -gt "$stored" ]; do sleep 1; done
echo "thawed: puts are taken"

# Paused, nothing counts.
api PUT /actions '{"action": "pause"}'
before=$(metric vtmem_exits_total)
sleep 1
[ "$(metric vtmem_exits_total)" = "$before" ] || { echo "a paused machine still exits" >&2; exit 1; }
echo "paused: $before exits, and no more"
api PUT /actions '{"action": "resume"}'
until [ "$(metric vtmem_exits_total)" -gt "$before" ]; do sleep 1; done
echo "resumed"

api PUT /actions '{"action": "shutdown"}'
echo "shut down"
