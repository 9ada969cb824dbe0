# Sourced by run.sh: starts and stops one simulated Docker host at a time. A host is a Debian tree with its own process, mount,
# network and host name namespaces. If $space is `own`, it also has a user namespace with its own binfmt_misc; with `machine` it
# shares the real machine's.
#
# What each line here is for was found by trial:
#   - pivot_root, not chroot: in a chroot the kernel refuses to make user namespaces;
#   - not `ip netns exec`, which hides /sys/fs/cgroup;
#   - dockerd in a network of its own: two would share the chains of one firewall;
#   - --tls=false: dockerd waits seconds before it listens to plain TCP otherwise.
# shellcheck shell=sh
# shellcheck disable=SC2154  # the kind's variables are run.sh's

# in_host COMMAND...: runs the command in the simulated host's namespaces, as its root
in_host() {
  init=$(cat "$state/init.pid")
  if [ "$space" = own ]; then
    nsenter -t "$init" -U -S 0 -G 0 -m -p -u -i -n -r -w "$@"
  else
    nsenter -t "$init" -m -p -u -i -n -r -w "$@"
  fi
}

# Script of the host's process 1: mounts the tree, /proc, /sys, /dev, /run.
# shellcheck disable=SC2016
boot_host='
  tree=$1 state=$2 cgroup=$3 share=$4 devices=$5
  set -e
  mount --bind "$tree" "$tree"
  cd "$tree"
  mount -t proc proc proc
  mount -t sysfs sysfs sys
  [ ! -e /sys/fs/cgroup/cgroup.controllers ] || cgroup=machine # only cgroup version 2
  case $cgroup in
    2) mount --bind /sys/fs/cgroup/unified sys/fs/cgroup ;;
    1) # without cgroup version 2: crun does not support a mixture
      mount -t tmpfs tmpfs sys/fs/cgroup
      for folder in /sys/fs/cgroup/*; do
        name=sys/fs/cgroup/$(basename "$folder")
        case $name in */unified) continue ;; esac
        if [ -L "$folder" ]; then cp -P "$folder" "$name"; else mkdir "$name"; mount --bind "$folder" "$name"; fi
      done
      ;;
    *) mount --rbind /sys/fs/cgroup sys/fs/cgroup ;;
  esac
  if [ "$devices" = own ]; then
    mount -t tmpfs -o mode=755 tmpfs dev
    mkdir dev/pts dev/shm dev/net
    mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts dev/pts
    mount -t tmpfs -o mode=1777 tmpfs dev/shm
    ln -s pts/ptmx dev/ptmx
    ln -s /proc/self/fd dev/fd
    for number in 0 1 2; do ln -s /proc/self/fd/$number dev/$number; done
    mv dev/0 dev/stdin; mv dev/1 dev/stdout; mv dev/2 dev/stderr
    for device in "$state"/dev/*; do
      name=dev/$(basename "$device" | tr + /)
      touch "$name"
      mount --bind "$device" "$name"
    done
  else
    mount --rbind /dev dev
  fi
  mount -t tmpfs tmpfs run
  mkdir -p run/lock run/old
  if [ "$share" = yes ]; then
    mount --rbind /tmp tmp
  else
    mount -t tmpfs tmpfs tmp # a remote host does not have files of the caller
  fi
  mkdir -p ".$state"
  mount --rbind "$state" ".$state"
  hostname simulated
  pivot_root . run/old
  umount -l run/old
  echo 1 > /proc/sys/net/ipv4/ip_forward
  # Mount binfmt_misc like systemd: otherwise it would vanish with each run, and a comparison would prove nothing.
  mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
  echo ready > "$state/ready"
  trap : TERM
  while :; do sleep 1; done'

# start_host: starts the host that $tree, $space, $engine, $cgroup, $share and $options describe; sets $DOCKER_HOST
start_host() {
  socket=$state/run/docker.sock
  export DOCKER_HOST="unix://$socket" # from now on, come what may: the caller's own engine must not be meant
  rm -rf "$state"
  mkdir -p "$state/data" "$state/log" "$state/run" "$state/home"
  chmod 755 "$state"
  devices=machine
  case $engine in
    rootless | podman-rootless)
      devices=own # the machine's are often root's alone; nobody may make one in a user namespace
      mkdir "$state/dev"
      for device in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0 fuse:10:229 net+tun:10:200; do
        numbers=${device#*:}
        mknod -m 666 "$state/dev/${device%%:*}" c "${numbers%:*}" "${numbers#*:}"
      done
      ;;
  esac
  chown 7001:7001 "$state/run" "$state/home"
  enter=
  if [ "$space" = own ]; then
    setsid unshare -U sleep infinity < /dev/null > /dev/null 2>&1 &
    holder=$!
    echo "$holder" > "$state/holder.pid"
    sleep 0.3
    echo "0 0 10000000" > "/proc/$holder/uid_map"
    echo "0 0 10000000" > "/proc/$holder/gid_map"
    enter="nsenter -t $holder -U -S 0 -G 0"
  fi
  # shellcheck disable=SC2086
  setsid $enter unshare -m -p -u -i -n -f --kill-child --propagation private sh -c "$boot_host" simulated-host \
    "$tree" "$state" "$cgroup" "$share" "$devices" < /dev/null > "$state/log/boot" 2>&1 &
  echo $! > "$state/outer.pid"
  await_host "the host" test -e "$state/ready" || return
  pgrep -P "$(cat "$state/outer.pid")" > "$state/init.pid"
  link_host
  add_entries
  start_engine
}

# await_host WHAT COMMAND...: repeats the command until it succeeds, for 60 s
await_host() {
  awaited=$1
  shift
  tries=300
  until "$@" > /dev/null 2>&1; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || { echo "$awaited is waited for in vain"; tail -n 5 "$state"/log/*; return 1; } >&2
    sleep 0.2
  done
}

# Network link to the real machine, for access to Debian's archive.
link_host() {
  ip link add "$link" type veth peer name "$link-p"
  ip link set "$link-p" netns "$(cat "$state/init.pid")"
  ip addr add "$network.1/24" dev "$link"
  ip link set "$link" up
  in_host sh -c "ip link set $link-p name eth0; ip addr add $network.2/24 dev eth0; ip link set eth0 up; ip link set lo up
    ip route add default via $network.1"
  iptables -w -t nat -I POSTROUTING -s "$network.0/24" ! -o "$link" -j MASQUERADE
  iptables -w -I FORWARD -i "$link" -j ACCEPT
  iptables -w -I FORWARD -o "$link" -j ACCEPT
}

# shellcheck disable=SC2016
register() { in_host sh -c 'printf "%s" "$1" > /proc/sys/fs/binfmt_misc/register' sh "$1"; }

# add_entries: registers entries of other programs in the simulated host's own binfmt_misc, which $entry selects (none, sound,
# stale). The real machine's binfmt_misc is never changed.
add_entries() {
  [ "$space" = own ] || return 0
  elf='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  register ':WSLInterop:M::MZ::/bin/true:P'
  case $entry in
    sound)
      register ":qemu-aarch64:M::$elf:$mask:/usr/bin/qemu-aarch64:OCF"
      ;;
    stale) # without flag F the interpreter is searched in the container, which does not have it
      register ":qemu-aarch64:M::$elf:$mask:/usr/libexec/gone/qemu-aarch64:OC"
      ;;
  esac
}

start_engine() {
  case $options in *containerd*) driver="--storage-driver overlayfs" ;; *) driver="--storage-driver overlay2" ;; esac
  case $engine in
    docker | remote)
      # shellcheck disable=SC2086
      in_host dockerd --data-root "$state/data" --exec-root /run/docker -p /run/dockerd.pid -H "unix://$socket" \
        -H unix:///run/docker.sock -H "tcp://$network.2:2375" --tls=false --mtu 1400 $driver $options < /dev/null > "$state/log/engine" 2>&1 &
      ;;
    rootless)
      # shellcheck disable=SC2086
      as_user /usr/share/docker.io/contrib/dockerd-rootless.sh --data-root "$state/home/data" -H "unix://$socket" --mtu 1400 \
        --storage-driver overlay2 $options < /dev/null > "$state/log/engine" 2>&1 &
      ;;
    podman)
      podman_files "$state/data" /run/containers/storage 'pids_limit=0'
      in_host env "CONTAINERS_STORAGE_CONF=$state/storage.conf" "CONTAINERS_CONF=$state/containers.conf" \
        podman --log-level warn system service -t 0 "unix://$socket" < /dev/null > "$state/log/engine" 2>&1 &
      ;;
    podman-rootless)
      podman_files "$state/home/data" "$state/run/containers" ''
      as_user podman --log-level warn system service -t 0 "unix://$socket" < /dev/null > "$state/log/engine" 2>&1 &
      ;;
  esac
  await_host "the engine" docker version
}

# stop_engine SIGNAL: stops dockerd; start_engine starts it again
# shellcheck disable=SC2016
stop_engine() {
  engine_pid=$(in_host cat /run/dockerd.pid) && [ -n "$engine_pid" ] || return
  in_host sh -c 'kill -"$1" "$2"' sh "$1" "$engine_pid"
  # dockerd closes its socket long before its end.
  await_host "the engine's end" in_host sh -c '! test -d "/proc/$1"' sh "$engine_pid"
}

as_user() {
  in_host setpriv --reuid 7001 --regid 7001 --clear-groups env -i "HOME=$state/home" USER=rootless "XDG_RUNTIME_DIR=$state/run" \
    PATH=/usr/sbin:/usr/bin:/sbin:/bin "CONTAINERS_STORAGE_CONF=$state/storage.conf" "CONTAINERS_CONF=$state/containers.conf" "$@"
}

# podman_files DATA RUN LINE: where it keeps what, and limits that it may set here (buildah raises them otherwise)
podman_files() {
  printf '[storage]\ndriver="overlay"\ngraphroot="%s"\nrunroot="%s"\n' "$1" "$2" > "$state/storage.conf"
  printf '[containers]\n%s\ndefault_ulimits=["nofile=20000:20000","nproc=90000:90000"]\n' "$3" > "$state/containers.conf"
}

# Prints the host's binfmt_misc as text.
# shellcheck disable=SC2016
table() { in_host sh -c 'cd /proc/sys/fs/binfmt_misc && for file in *; do [ "$file" = register ] || { echo "$file"; cat "$file"; }; done'; }

# stop_host: ends the host abruptly; all its processes end with process 1
stop_host() {
  [ -d "$state" ] || return 0
  for process in outer holder; do
    [ ! -e "$state/$process.pid" ] || kill -9 "$(cat "$state/$process.pid")"
  done
  sleep 1
  iptables -w -t nat -D POSTROUTING -s "$network.0/24" ! -o "$link" -j MASQUERADE
  iptables -w -D FORWARD -i "$link" -j ACCEPT
  iptables -w -D FORWARD -o "$link" -j ACCEPT
  ip link del "$link"
  rm -rf "$state"
} 2> /dev/null
