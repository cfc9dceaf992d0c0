import { memo, useMemo } from "react";

import { httpSource, type ResultSource } from "../api/source";
import type { ResultRecord, View } from "../api/types";
import { useTheme } from "../layout/theme";
import type { Hover } from "../views/types";
import { ViewPicture } from "../views/ViewPicture";

export type { Hover } from "../views/types";

/** The numbers of a result; the same object while the result is the same. */
export function useSource(record: ResultRecord | undefined): ResultSource | null {
  return useMemo(() => (record ? httpSource(record) : null), [record]);
}

interface Props {
  source: ResultSource;
  view: View;
  at?: Readonly<Record<string, number>> | undefined;
  onAt?: ((dim: string, index: number) => void) | undefined;
  hover?: Hover | undefined;
  onHover?: ((hover: Hover) => void) | undefined;
  onSelect?: ((chosen: Readonly<Record<string, number>>) => void) | undefined;
  height?: number | undefined;
  children?: React.ReactNode;
}

/** One view with its title and its note. */
export const Picture = memo(function Picture({ source, view, children, ...rest }: Props) {
  const [theme] = useTheme();
  return (
    <figure className="picture">
      <figcaption>
        <span>{view.title}</span>
        {children}
      </figcaption>
      <ViewPicture result={source} view={view} theme={theme} {...rest} />
    </figure>
  );
});
