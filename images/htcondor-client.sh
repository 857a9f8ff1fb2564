#!/bin/sh
# HTCondor's client programs in the folder $1 (/opt/condor): Debian's own, with their own loader and libraries, whatever
# the base is. The Python wheel has no programs, and not every Debian that may be a base has a package of HTCondor.
# Runs while an image is built; what it fetches is signed by Debian's archive keys.
set -eu

into=$1
suite=trixie
programs="condor_config_val condor_history condor_hold condor_ping condor_prio condor_q condor_qedit condor_release
  condor_rm condor_status condor_submit condor_submit_dag condor_tail condor_transfer_data condor_userprio
  condor_version condor_wait"
# What the programs open by name, so that none of them names it as needed.
opened="libSciTokens.so.0 libcrypto.so.3 libssl.so.3"

archive=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -v security | head -n 1)
work=$(mktemp -d)
mkdir -p "$work/etc/preferences.d" "$work/state" "$work/lists/partial" "$work/cache/archives/partial" "$work/tree" "$into/bin" "$into/lib"
touch "$work/state/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $archive $suite main" >"$work/sources.list"

apt() {
  apt-get -qq -y -o "Dir::Etc=$work/etc" -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=- \
    -o "Dir::State=$work/state" -o "Dir::State::status=$work/state/status" -o "Dir::State::lists=$work/lists" \
    -o "Dir::Cache=$work/cache" -o APT::Install-Recommends=false -o APT::Sandbox::User= -o APT::Update::Error-Mode=any "$@"
}
apt update
apt --download-only install condor libscitokens0t64
for package in "$work"/cache/archives/*.deb; do
  dpkg-deb --extract "$package" "$work/tree"
done

libraries=$(dirname "$(find "$work/tree/usr/lib" -name libc.so.6)")
loader=$(find "$libraries" -maxdepth 1 -name 'ld-linux-*.so.*')
for name in $programs; do
  cp -L "$work/tree/usr/bin/$name" "$into/bin/"
done
for name in $opened; do
  cp -L "$libraries/$name" "$into/lib/"
done
# The loader itself says what they need.
for file in "$into"/bin/* "$into"/lib/*; do
  "$loader" --library-path "$libraries:$work/tree/usr/lib:$work/tree/usr/lib/condor" --list "$file"
done | sed -n 's/.* => \(.*\) (0x.*/\1/p' | sort -u | while read -r library; do
  cp -L "$library" "$into/lib/"
done
cp -L "$loader" "$into/lib/"
for name in $programs; do
  # DT_RPATH, which is also used for what a library opens by name; DT_RUNPATH is not.
  patchelf --set-interpreter "$into/lib/$(basename "$loader")" --force-rpath --set-rpath '$ORIGIN/../lib' "$into/bin/$name"
done
chmod -R a+rX,go-w "$into"
rm -rf "$work"
"$into/bin/condor_version"
