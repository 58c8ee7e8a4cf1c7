#!/bin/busybox sh
# The first process of a kernel that is tried: measures workloads in cgroups, writes what was found to the second serial
# port, a line each, and turns the machine off.
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t cgroup2 cgroup /cgroup
stty -F /dev/ttyS1 raw
exec > /dev/ttyS1
echo "release $(uname -r)"

# A kernel that is locked down refuses the program; with securityfs it also tells why.
if grep -q lockdown= /proc/cmdline; then
	for name in unseen seen; do
		[ $name = unseen ] || mount -t securityfs security /sys/kernel/security
		collector --log-level=debug --output=json --output-file=/tmp/summary run -- true > /dev/null 2> /tmp/log
		echo "workload $name"
		echo "summary $(tr -d '\n' < /tmp/summary)"
		echo "verifier $(grep -c 'verifier refuses a program' /tmp/log)"
	done
	echo done
	poweroff -f
fi

# The names are those of containers.
first=/cgroup/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
second=/cgroup/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb

usage() {
	sed -n 's/^usage_usec //p' "$1/cpu.stat"
}

# The name of a workload and its script.
measure() {
	mkdir $first $second
	# The log of the one before says that it measures.
	: > /tmp/log
	collector --ebpf=require --interval=1s --output=json --output-file=/tmp/summary > /dev/null 2>> /tmp/log &
	collector=$!
	until grep -q ' measuring ' /tmp/log; do
		kill -0 $collector || break
		sleep 0.1
	done
	sh -c "echo \$\$ > $first/cgroup.procs; $2" || echo "failed $1: exit code $?"
	# Orphans end after whoever started them.
	while grep -q 'populated 1' $first/cgroup.events $second/cgroup.events; do sleep 0.1; done
	kill -TERM $collector
	if wait $collector; then
		echo "workload $1"
		echo "usage $(usage $first) $(usage $second)"
		echo "dropped $(sed -n 's/.*dropped=//p' /tmp/log)"
		echo "summary $(tr -d '\n' < /tmp/summary)"
	else
		echo "refused $(tail -n 1 /tmp/log)"
	fi
	rmdir $first $second
}

measure loop 'i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done'
measure orphans 'workload orphans 20 20; workload deaf 20 20'
measure moved "workload mover $first $second 4 500; workload threads 3 200"
echo done
poweroff -f
