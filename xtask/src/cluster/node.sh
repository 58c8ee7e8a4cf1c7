#!/bin/sh
# The node's own root, from within new mount, network and UTS namespaces: the machine's, of which only what is bound below
# can be written to for good. All of it is gone with the last process in these namespaces.
#
# $1: the directory of the cluster. $2: the directory that programs and images are in, at the same place in both roots.
set -eu
run=$1
shared=$2

hostname node
mount --make-rprivate /
mount -t tmpfs tmpfs "$run/root"
mkdir "$run/root/upper" "$run/root/work" "$run/root/node"
root="$run/root/node"
mount -t overlay overlay -o "lowerdir=/,upperdir=$run/root/upper,workdir=$run/root/work" "$root"
for directory in proc sys dev; do
    mount --rbind "/$directory" "$root/$directory"
done
for directory in run tmp; do
    mount -t tmpfs tmpfs "$root/$directory"
done
for directory in "$run" "$shared"; do
    mkdir -p "$root$directory"
    mount --bind "$directory" "$root$directory"
done
# Each of these is large, or must not lie on an overlay, as the layers of images.
for directory in lib/containerd lib/docker lib/etcd lib/kubelet lib/runner-resource-collector log/containers log/pods; do
    mkdir -p "$run/var/$directory" "$root/var/$directory"
    mount --bind "$run/var/$directory" "$root/var/$directory"
done

cd "$root"
mkdir -p old
pivot_root . old
umount -l /old
# The kubelet hands mounts on to containers.
mount --make-rshared /

ip link set lo up
sysctl -qw net.ipv4.ip_forward=1

echo ready > "$run/ready"
exec sleep infinity
