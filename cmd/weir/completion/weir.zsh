#compdef weir
# zsh completion for weir: put it as _weir into a directory of $fpath, or source
# it after compinit.
_weir() {
    local line
    local -a candidates
    while IFS= read -r line; do
        case $line in
        :files | :directories)
            [[ $PREFIX == --*=* ]] && compset -P '*='
            if [[ $line == :files ]]; then _files; else _files -/; fi
            return
            ;;
        esac
        local value=${line%%$'\t'*} what=${line#*$'\t'}
        candidates+=("${value//:/\\:}:$what")
    done < <("${words[1]}" complete-words -- "${(@)words[2,CURRENT]}" 2>/dev/null)
    _describe weir candidates
}
if [[ ${funcstack[1]} == _weir ]]; then
    _weir "$@"
else
    compdef _weir weir
fi
