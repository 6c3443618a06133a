// The flags that name a licence service, the same for every verb that may talk to one.
import type { Command } from 'commander';
import { CONFIG_KEYS } from '../edge/config.js';
import type { ServiceChoice } from '../edge/licence/pinned-service.js';

export interface ServiceFlags {
  readonly licence_service?: string;
  readonly service_ca?: string;
  readonly insecure_http?: true;
}

export function addServiceFlags(command: Command): void {
  const { licence_service: service, service_ca: ca, insecure_http: insecure } = CONFIG_KEYS;
  command
    .option('--licence_service <url>', service.description)
    .option('--service_ca <file>', ca.description)
    .option('--insecure_http', insecure.description);
}

export function serviceChoiceOf({ licence_service, service_ca, insecure_http }: ServiceFlags): ServiceChoice {
  return {
    licenceService: licence_service ?? null,
    serviceCa: service_ca ?? null,
    insecureHttp: insecure_http === true,
  };
}

/** The activation code that was given, or that the environment holds: other users of the machine see arguments. */
export function activationCodeOf(given: string | null | undefined): string | null {
  const fromEnvironment = process.env.DISTILLOCK_ACTIVATION_CODE;
  return given ?? (fromEnvironment === undefined || fromEnvironment === '' ? null : fromEnvironment);
}
