#!/usr/bin/env bash
# Makes this machine ready: SoftHSM and what the build and the tests need (by apt, when this may use it), and soft
# tokens of the project's own in ./.softhsm. Running it twice is harmless: what is there stays as it is.
#
#   ./softhsm-setup.sh           tokens in ./.softhsm, for this checkout only
#   ./softhsm-setup.sh --user    also ~/.config/softhsm2/softhsm2.conf, which SoftHSM finds by itself
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
say() { printf '%s\n' "$*" >&2; }

for_user=no
case "${1:-}" in
  "") ;;
  --user) for_user=yes ;;
  -h | --help) sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) say "usage: ./softhsm-setup.sh [--user]"; exit 2 ;;
esac

# --- 1. Packages -------------------------------------------------------------------------------------------------

softhsm_module() {
  local place
  for place in /usr/lib/softhsm /usr/lib/*-linux-gnu/softhsm /usr/lib64/softhsm /usr/lib64 /usr/lib/pkcs11 \
    /usr/local/lib/softhsm /opt/homebrew/lib/softhsm; do
    if [ -e "$place/libsofthsm2.so" ]; then printf '%s\n' "$place/libsofthsm2.so"; return; fi
  done
  return 1
}
has() { command -v "$1" >/dev/null 2>&1; }
any_file() { compgen -G "$1" >/dev/null; }

needed=() # without these nothing works
wanted=() # without these some tests cannot run
softhsm_module >/dev/null || needed+=(softhsm2)
has softhsm2-util || needed+=(softhsm2)
has cc || needed+=(gcc libc6-dev)
any_file '/usr/include/*/sys/cdefs.h' || any_file /usr/include/sys/cdefs.h || needed+=(libc6-dev)
has c++ || wanted+=(g++)
has pkg-config || wanted+=(pkg-config)
# Its headers too: libclang-cpp, which others bring along, is something else.
any_file '/usr/lib/llvm-*/lib/libclang.so' || any_file '/usr/lib/*/libclang.so' || wanted+=(libclang-dev)
[ -e /usr/include/openssl/ssl.h ] || wanted+=(libssl-dev)
[ -e /usr/include/sqlite3.h ] || wanted+=(libsqlite3-dev)
has openssl || wanted+=(openssl)
has sqlite3 || wanted+=(sqlite3)
has git || wanted+=(git)
has curl || wanted+=(curl)
has python3 || wanted+=(python3)
has script || wanted+=(bsdutils)
has pkcs11-tool || wanted+=(opensc)
has p11tool || wanted+=(gnutls-bin)
has p11-kit || wanted+=(p11-kit)
has pinentry-curses || wanted+=(pinentry-curses)
has pinentry-tty || wanted+=(pinentry-tty)
has pinentry-gtk-2 || wanted+=(pinentry-gtk2)
has Xvfb || wanted+=(xvfb)
has xdotool || wanted+=(xdotool)
has ssh-keygen || wanted+=(openssh-client)
[ -x /usr/sbin/sshd ] || has sshd || wanted+=(openssh-server)
has systemd-analyze || wanted+=(systemd)
[ -x /usr/sbin/pcscd ] || has pcscd || wanted+=(pcscd)
[ -e /usr/lib/pcsc/drivers/serial/libifdvpcd.so ] || wanted+=(vsmartcard-vpcd)
any_file '/usr/lib/*/libpcsclite.so.1' || wanted+=(libpcsclite1)
any_file '/usr/lib/*/opensc-pkcs11.so' || any_file /usr/lib/opensc-pkcs11.so || wanted+=(opensc-pkcs11)
has yubico-piv-tool || wanted+=(yubico-piv-tool)
any_file '/usr/lib/*/libykcs11.so' || any_file /usr/lib/libykcs11.so || wanted+=(ykcs11)
has ykman || wanted+=(yubikey-manager)
[ -e /usr/include/PCSC/winscard.h ] || wanted+=(libpcsclite-dev)
any_file '/usr/lib/*/engines-3/pkcs11.so' || wanted+=(libengine-pkcs11-openssl)

as_root=()
may_install=no
if has apt-get; then
  if [ "$(id -u)" -eq 0 ]; then
    may_install=yes
  elif has sudo && { sudo -n true 2>/dev/null || [ -t 0 ]; }; then
    as_root=(sudo)
    may_install=yes
  fi
fi

if [ $((${#needed[@]} + ${#wanted[@]})) -gt 0 ]; then
  if [ "$may_install" = yes ]; then
    say "Installing: ${needed[*]} ${wanted[*]}"
    "${as_root[@]}" apt-get update -qq >&2 || say "(apt-get update failed; trying with the package lists that are here)"
    # A release that does not have one of them has the others.
    there=()
    for package in "${wanted[@]}"; do
      if apt-cache show "$package" >/dev/null 2>&1; then there+=("$package"); else say "(there is no package $package here)"; fi
    done
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
      "${needed[@]}" "${there[@]}" >&2; then
      say "apt-get could not install them. Install these packages by hand, then run this again:"
      say "  ${needed[*]} ${wanted[*]}"
      exit 1
    fi
  elif [ ${#needed[@]} -gt 0 ]; then
    say "Missing, and this may not install it. As root:"
    say "  apt-get install ${needed[*]} ${wanted[*]}"
    say "(other systems: the SoftHSM 2 package, a C compiler), then run this again."
    exit 1
  else
    say "Some tests need what is not installed here; tokenkeep itself does not. As root:"
    say "  apt-get install ${wanted[*]}"
  fi
fi

module=$(softhsm_module) || { say "SoftHSM's module libsofthsm2.so was not found after installing it."; exit 1; }
has cargo || say "Rust is missing: install it from https://rustup.rs (rustc 1.95 or newer)."

# --- 2. Token directories ----------------------------------------------------------------------------------------

# Writes $1 from the template, with tokens in $2. A configuration that is there stays, unless its directory is gone
# with a moved checkout ($3 = ours).
write_configuration() {
  local file=$1 tokens=$2 ours=${3:-}
  mkdir -p "$(dirname "$file")" "$tokens"
  chmod 700 "$tokens"
  if [ -e "$file" ] && { [ -z "$ours" ] || grep -qxF "directories.tokendir = $tokens" "$file"; }; then return; fi
  local template
  template=$(<"$here/hsm-config/softhsm2.conf")
  (umask 077 && printf '%s\n' "${template//@TOKENDIR@/$tokens}" >"$file.new" && mv "$file.new" "$file")
}

write_configuration "$here/.softhsm/softhsm2.conf" "$here/.softhsm/tokens" ours
if [ "$for_user" = yes ]; then
  write_configuration "${HOME:?}/.config/softhsm2/softhsm2.conf" "$HOME/.local/share/softhsm2/tokens"
  say "SoftHSM finds $HOME/.config/softhsm2/softhsm2.conf by itself."
fi

say "SoftHSM is ready: $module, tokens in $here/.softhsm. For this shell:"
printf 'export SOFTHSM2_CONF=%q\n' "$here/.softhsm/softhsm2.conf"
