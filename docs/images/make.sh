#!/usr/bin/env bash
# Makes explanation.png from a report: `make demo`, then docs/images/make.sh [explanation.html]. Needs Chromium.
set -euo pipefail
report=$(realpath "${1:-explanation.html}")
here=$(cd "$(dirname "$0")" && pwd)
page=$(mktemp --suffix=.html)
cat > "$page" <<HTML
<body style="margin:0;display:flex;background:white">
<iframe src="file://$report" style="border:0;width:860px;height:1165px" scrolling="no"></iframe>
<iframe src="file://$report#difference" style="border:0;width:860px;height:1165px" scrolling="no"></iframe>
</body>
HTML
chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
  --disable-component-update --disable-sync --allow-file-access-from-files --hide-scrollbars \
  --blink-settings=preferredColorScheme=1 --user-data-dir="$(mktemp -d)" --window-size=1720,1165 \
  --screenshot="$here/explanation.png" "file://$page"
