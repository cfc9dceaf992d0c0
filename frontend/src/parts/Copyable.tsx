import { useEffect, useState } from "react";

/** Code with a button that copies it. */
export function Copyable({ text, label, children }: { text: string; label: string; children?: React.ReactNode }) {
  const [copied, setCopied] = useState<boolean | null>(null);
  useEffect(() => {
    if (copied === null) return;
    const timer = setTimeout(() => setCopied(null), 2000);
    return () => clearTimeout(timer);
  }, [copied]);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setCopied(true);
    } catch {
      setCopied(false);
    }
  };
  return (
    <div className="copyable">
      <div className="copyable-top">
        <span className="label">{label}</span>
        <button className="quiet small" onClick={copy} aria-label={`Copy: ${label}`}>
          {copied === null ? "Copy" : copied ? "Copied" : "Select it and copy by hand"}
        </button>
      </div>
      <pre tabIndex={0}>{children ?? text}</pre>
    </div>
  );
}
