/* interrupt.exe PROGRAM WORDS: starts the program in a console of its own, sends Ctrl-C to that console when the program
   has written its first byte, and ends with the program's exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <windows.h>

int main(int count, char **words) {
  char line[8192] = "", byte;
  for (int at = 1; at < count; at++) {
    strcat(line, at > 1 ? " \"" : "\"");
    strcat(line, words[at]);
    strcat(line, "\"");
  }
  FreeConsole();
  if (!AllocConsole()) return fprintf(stderr, "no console: %lu\n", GetLastError()), 99;
  HANDLE from, to;
  SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
  /* Room for all that it may write: what else it started may keep the other end. */
  CreatePipe(&from, &to, &inherited, 1 << 20);
  SetHandleInformation(from, HANDLE_FLAG_INHERIT, 0);
  STARTUPINFOA start = {.cb = sizeof start, .dwFlags = STARTF_USESTDHANDLES, .hStdOutput = to};
  start.hStdError = GetStdHandle(STD_ERROR_HANDLE);
  PROCESS_INFORMATION made;
  if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &start, &made))
    return fprintf(stderr, "not started: %lu\n", GetLastError()), 99;
  CloseHandle(to);
  DWORD got, code = 99;
  ReadFile(from, &byte, 1, &got, NULL);
  SetConsoleCtrlHandler(NULL, TRUE);
  if (!GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0)) return fprintf(stderr, "not sent: %lu\n", GetLastError()), 99;
  WaitForSingleObject(made.hProcess, 30000);
  GetExitCodeProcess(made.hProcess, &code);
  return code;
}
