#!/bin/sh
# Makes OBS Studio 30 with WHIP in a folder of its own: debian13.sh FOLDER
#
# It is the one of Debian 13, with OBS's own WHIP plugin, which Debian leaves out because it has no libdatachannel. Both are
# built here: the plugin from the source of that release, and libdatachannel with mbedTLS, as in OBS's builds for Windows and
# macOS. Wants root, debootstrap, cargo and 2 GB; takes five minutes.
set -eu

libdatachannel=0.23.0+0.23.2 # The crate that carries its source, and the version of that.
folder=$1
root=$folder.part

rm -rf "$root"
debootstrap --variant=minbase --include=ca-certificates trixie "$root"
cp /etc/resolv.conf "$root/etc/"
echo "$(sed -n 's/^deb /deb-src /p' "$root/etc/apt/sources.list")" >> "$root/etc/apt/sources.list"

mkdir "$root/build"
printf '[package]\nname = "sources"\nversion = "0.0.0"\nedition = "2024"\n[lib]\npath = "/dev/null"\n[workspace]\n[dependencies]\ndatachannel-sys = "=%s"\n' \
    "$libdatachannel" > "$root/build/Cargo.toml"
(cd "$root/build" && cargo vendor --quiet > vendored.toml)

cat > "$root/build/inside.sh" <<'INSIDE'
set -eu
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -qq -y --no-install-recommends obs-studio obs-plugins qt6-svg-plugins libgl1-mesa-dri \
    libobs-dev g++ cmake ninja-build pkg-config libcurl4-gnutls-dev libmbedtls-dev libsimde-dev dpkg-dev xz-utils
cd /build
cmake -S vendor/datachannel-sys/libdatachannel -B libdatachannel -G Ninja -DCMAKE_BUILD_TYPE=Release \
    -DCMAKE_INSTALL_PREFIX=/usr/local -DUSE_MBEDTLS=ON -DNO_WEBSOCKET=ON -DNO_TESTS=ON -DNO_EXAMPLES=ON
cmake --build libdatachannel --target install
apt-get source -qq --download-only --tar-only obs-studio
mkdir obs && tar -xf obs-studio_*.orig.tar.xz -C obs --strip-components=1
c++ -O2 -std=c++17 -fPIC -shared -w -I/usr/include/obs obs/plugins/obs-webrtc/*.cpp \
    -o "$(echo /usr/lib/*/obs-plugins)/obs-webrtc.so" -L/usr/local/lib -Wl,-rpath,/usr/local/lib -lobs -lcurl -ldatachannel
mkdir /usr/share/obs/obs-plugins/obs-webrtc
cp -r obs/plugins/obs-webrtc/data/. /usr/share/obs/obs-plugins/obs-webrtc/
rm -rf /build
apt-get clean
INSIDE
unshare --mount sh -c 'mount --bind /proc "$1/proc" && exec chroot "$1" sh /build/inside.sh' - "$root"
mv "$root" "$folder"
